import Core
import Glibc
import Synchronization

/// A clear end for a process whose mapped file (a model, a cache of hidden states) is cut short while it is read, or lies on a disk that fails. The
/// kernel sends SIGBUS then, which would end the process without a word.
///
/// The handler calls nothing but open, read, write, signal and pause, and allocates nothing.
enum MappingFault {
    private static let mapsBytes = 1 << 20
    /// Room for /proc/self/maps.
    private nonisolated(unsafe) static let maps = UnsafeMutablePointer<UInt8>.allocate(capacity: mapsBytes)

    /// Whether a thread is in the handler. Threads that read the same file fault at the same time.
    private static let isHandling = Atomic(false)

    static func installHandler() {
        // A handler must not initialise a global on its first use. One byte is enough: pages that nobody writes take no memory.
        maps.initialize(to: 0)
        isHandling.store(false, ordering: .relaxed)
        var action = sigaction()
        action.__sigaction_handler.sa_sigaction = { _, info, _ in
            // The first thread ends the process; the others wait for that.
            guard MappingFault.isHandling.compareExchange(expected: false, desired: true, ordering: .acquiringAndReleasing).exchanged else {
                while true { pause() }
            }
            if let info { MappingFault.endIfFile(at: UInt(bitPattern: info.pointee._sifields._sigfault.si_addr)) }
            // The access is tried again, and the signal's default action ends the process.
            signal(SIGBUS, SIG_DFL)
        }
        action.sa_flags = SA_SIGINFO
        sigaction(SIGBUS, &action, nil)
    }

    /// Ends the process with the name of the file that is mapped at an address; returns if there is none.
    private static func endIfFile(at address: UInt) {
        let file: StaticString = "/proc/self/maps"
        let descriptor = open(UnsafeRawPointer(file.utf8Start).assumingMemoryBound(to: CChar.self), O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return }
        var count = 0
        while count < mapsBytes {
            let more = read(descriptor, maps + count, mapsBytes - count)
            guard more > 0 else { break }
            count += more
        }
        var place = 0
        while place < count {
            // 7f0123456000-7f0123457000 r--s 00000000 08:01 123456    /path/to/file
            let start = number(&place, count)
            place += 1
            let end = number(&place, count)
            while place < count, maps[place] != UInt8(ascii: "\n"), maps[place] != UInt8(ascii: "/") { place += 1 }
            let name = place
            while place < count, maps[place] != UInt8(ascii: "\n") { place += 1 }
            if start <= address, address < end, name < place {
                say("error: ")
                _ = write(STDERR_FILENO, maps + name, place - name)
                say(" was cut short while it was in use, or its disk can't be read; look at the disk, and start again\n")
                _exit(ExitStatus.inputOutput.rawValue)
            }
            place += 1
        }
    }

    private static func say(_ text: StaticString) { _ = write(STDERR_FILENO, text.utf8Start, text.utf8CodeUnitCount) }

    /// Reads a hexadecimal number.
    private static func number(_ place: inout Int, _ count: Int) -> UInt {
        var value: UInt = 0
        while place < count {
            let digit: UInt
            switch maps[place] {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = UInt(maps[place] &- UInt8(ascii: "0"))
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = UInt(maps[place] &- UInt8(ascii: "a") &+ 10)
            default: return value
            }
            value = value << 4 | digit
            place += 1
        }
        return value
    }
}
