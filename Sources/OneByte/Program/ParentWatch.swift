import Core
import Foundation
import Glibc

/// Ends this process when the process that started it is gone, even if that was killed and could not stop its children.
///
/// The kernel's own mechanism (PR_SET_PDEATHSIG) does not help: it follows the *thread* that started the child, and the threads of a pool
/// come and go. Checking the parent's number twice a second costs nothing.
enum ParentWatch {
    /// Variable through which `onebyte cluster` gives its children its process number.
    static let variable = "ONEBYTE_PARENT"
    private static let microsecondsBetweenLooks: UInt32 = 500_000
    private static let secondsToStop: UInt32 = 5

    /// Process number of the cluster, if this process is a part of one.
    static let parent = ProcessInfo.processInfo.environment[variable].flatMap { Int32($0) }

    static func beginIfAsked() {
        guard let parent else { return }
        // The variable is for this process and not for its children.
        unsetenv(variable)
        let thread = Thread {
            while getppid() == parent { usleep(microsecondsBetweenLooks) }
            // First in order, and soon in any case.
            kill(getpid(), SIGTERM)
            sleep(secondsToStop)
            _exit(ExitStatus.terminated.rawValue)
        }
        thread.name = "parent watch"
        thread.start()
    }
}
