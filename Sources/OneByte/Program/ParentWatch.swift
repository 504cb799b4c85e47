import Core
import Foundation
import Glibc

/// Ends this process when the one that started it is gone, also where that one was killed and could stop nobody.
///
/// The kernel's own way (PR_SET_PDEATHSIG) is no use: it follows the *thread* that started the child, and threads of a pool
/// come and go. A look at the parent's number twice a second costs nothing.
enum ParentWatch {
    /// The variable through which `onebyte cluster` tells its children its process number.
    static let variable = "ONEBYTE_PARENT"
    private static let microsecondsBetweenLooks: UInt32 = 500_000
    private static let secondsToStop: UInt32 = 5

    /// The cluster's process, where this one is a part of it.
    static let parent = ProcessInfo.processInfo.environment[variable].flatMap { Int32($0) }

    static func beginIfAsked() {
        guard let parent else { return }
        // It is meant for this process, not for those that this one starts.
        unsetenv(variable)
        let thread = Thread {
            while getppid() == parent { usleep(microsecondsBetweenLooks) }
            // In order if possible, in any case soon.
            kill(getpid(), SIGTERM)
            sleep(secondsToStop)
            _exit(ExitStatus.terminated.rawValue)
        }
        thread.name = "parent watch"
        thread.start()
    }
}
