import ArgumentParser
import Foundation

/// Another process of this program, so that its resource use can be measured separately. It ends when its standard input does, so it never
/// outlives this process.
final class Child {
    private let process = Process()
    private let input = Pipe()
    private let output = Pipe()
    private var pending = Data()

    init(_ arguments: [String]) throws {
        process.executableURL = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath()
        process.arguments = arguments
        process.standardInput = input
        process.standardOutput = output
        try process.run()
        try output.fileHandleForWriting.close()
    }

    /// Returns the next line of its standard output as JSON; nil at the end.
    func next<Value: Decodable>(_ type: Value.Type) throws -> Value? {
        while true {
            if let end = pending.firstIndex(of: 0x0a) {
                let line = Data(pending[..<end])
                pending = Data(pending[(end + 1)...])
                return try JSONDecoder().decode(type, from: line)
            }
            let more = output.fileHandleForReading.availableData
            if more.isEmpty { return nil }
            pending += more
        }
    }

    /// Processor time that it has used so far, in seconds.
    var cpuSeconds: Double {
        let text = (try? String(contentsOfFile: "/proc/\(process.processIdentifier)/stat", encoding: .utf8)) ?? ""
        // After the name in parentheses: state is field 3, utime 14, stime 15.
        let fields = text[(text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ")
        guard fields.count > 13, let user = Double(fields[12]), let system = Double(fields[13]) else { return 0 }
        return (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
    }

    /// Asks it to end and waits until it has.
    func stop() {
        try? input.fileHandleForWriting.close()
        process.waitUntilExit()
    }

    /// Waits until it has ended by itself.
    ///
    /// - Throws: an error if it failed.
    func wait() throws {
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw ValidationError("\(process.arguments?.first ?? "a process") ended with status \(process.terminationStatus)")
        }
    }
}

/// Calls `stop` when standard input ends.
func stopWithParent(_ stop: @escaping @Sendable () -> Void) {
    Thread.detachNewThread {
        while !FileHandle.standardInput.availableData.isEmpty {}
        stop()
    }
}
