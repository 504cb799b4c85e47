import Core
import Glibc

/// A request of an operator to a running coordinator. It is a file in the run directory: whoever may write there may ask, and nobody else. There is
/// no further door to the network.
public enum OperatorRequest: Hashable, Sendable {
    /// Takes the machine's contributions out of these rounds.
    case retract(MachineID, rounds: Range<RoundNumber>)
    /// Puts back what was taken out of these rounds.
    case restore(MachineID, rounds: Range<RoundNumber>)
    /// Goes back to the parameters before the round.
    case rewind(RoundNumber)
    /// Removes the machine from the run.
    case evict(MachineID)

    var event: CoordinatorEvent {
        switch self {
        case .retract(let machine, let rounds): .retract(machine, rounds: rounds)
        case .restore(let machine, let rounds): .restore(machine, rounds: rounds)
        case .rewind(let round): .rewind(to: round, rateShift: 0)
        case .evict(let machine): .remove(machine)
        }
    }

    var line: String {
        switch self {
        case .retract(let machine, let rounds): "retract \(machine.rawValue) \(rounds.lowerBound) \(rounds.upperBound)"
        case .restore(let machine, let rounds): "restore \(machine.rawValue) \(rounds.lowerBound) \(rounds.upperBound)"
        case .rewind(let round): "rewind \(round)"
        case .evict(let machine): "evict \(machine.rawValue)"
        }
    }

    /// Reads a line of the request file, such as `retract 3 0 20` or `evict 3`. Returns nil if it is not a request.
    package init?(line: String) {
        let words = line.split(separator: " ")
        let numbers = words.dropFirst().compactMap { UInt32($0) }
        guard numbers.count == words.count - 1 else { return nil }
        switch (words.first, numbers.count) {
        case ("retract", 3) where numbers[1] <= numbers[2]: self = .retract(MachineID(numbers[0]), rounds: numbers[1]..<numbers[2])
        case ("restore", 3) where numbers[1] <= numbers[2]: self = .restore(MachineID(numbers[0]), rounds: numbers[1]..<numbers[2])
        case ("rewind", 1): self = .rewind(numbers[0])
        case ("evict", 1): self = .evict(MachineID(numbers[0]))
        default: return nil
        }
    }
}

extension RunDirectory {
    /// The file of requests to a running coordinator. The coordinator deletes it when it has read it.
    public var requests: String { path + "/requests" }
    private static let requestBytesMax = 1 << 16

    /// Writes requests for the coordinator, whole or not at all.
    ///
    /// - Throws: `ProcessFailure` `.temporary` while earlier requests wait, `.inputOutput` if the directory can't be written, `.usage` for more
    ///   than a coordinator reads.
    public func leave(_ wanted: [OperatorRequest]) throws(ProcessFailure) {
        let temporary = "\(requests).\(getpid())"
        let text = Array(wanted.map { $0.line + "\n" }.joined().utf8)
        guard text.count <= Self.requestBytesMax else {
            throw ProcessFailure(.usage, "\(wanted.count) requests are more than a coordinator takes at once\nname fewer machines")
        }
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw ProcessFailure(.inputOutput, "can't write \(temporary): \(String(cString: strerror(errno)))")
        }
        defer { unlink(temporary) }
        let wrote = Glibc.write(descriptor, text, text.count)
        close(descriptor)
        guard wrote == text.count else { throw ProcessFailure(.inputOutput, "can't write \(temporary); is the disk full?") }
        // link() never replaces an existing file.
        guard link(temporary, requests) == 0 else {
            throw errno == EEXIST
                ? ProcessFailure(.temporary, "\(requests): earlier requests still wait; is the coordinator running?")
                : ProcessFailure(.inputOutput, "can't write \(requests): \(String(cString: strerror(errno)))")
        }
    }

    /// Withdraws a request that nobody has read.
    public func withdrawRequests() { unlink(requests) }

    /// Returns the requests that were left, and the lines that are not requests. The file is deleted before any of them is carried out, so none is
    /// carried out twice.
    func takeRequests() -> (requests: [OperatorRequest], unknown: [String]) {
        // O_NONBLOCK: the name may be that of a pipe to which nobody ever writes, and the reactor must not wait.
        let descriptor = open(requests, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
        guard descriptor >= 0 else { return ([], []) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return ([], []) }
        var bytes = [UInt8](repeating: 0, count: Self.requestBytesMax + 1)
        let count = read(descriptor, &bytes, bytes.count)
        guard unlink(requests) == 0, count > 0 else { return ([], []) }
        // Half of what somebody wants is not done: it could be the wrong half.
        guard count <= Self.requestBytesMax else { return ([], ["more than \(Self.requestBytesMax) bytes of requests"]) }
        let lines = String(decoding: bytes[..<count], as: UTF8.self).split(separator: "\n").map(String.init)
        return (lines.compactMap(OperatorRequest.init(line:)), lines.filter { OperatorRequest(line: $0) == nil })
    }
}
