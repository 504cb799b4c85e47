/// The number of one admission of a worker to the run. A number is never given twice, not even after the coordinator restarts, because it names
/// directions: a second holder would try directions that were already tried.
public struct MachineID: RawRepresentable, Hashable, Comparable, Codable, Sendable, CustomStringConvertible {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    public init(_ rawValue: UInt32) { self.rawValue = rawValue }
    public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    public var description: String { "machine \(rawValue)" }
}

/// A round of the run; the first is 0. "The parameters at round t" are the parameters before round t is applied.
public typealias RoundNumber = UInt32

/// A sample's number within its machine, from 0. The coordinator hands the numbers out.
public typealias SampleNumber = UInt32

/// The run's seed: the Philox key of every direction, as two words (low, high).
public struct RunSeed: RawRepresentable, Hashable, Codable, Sendable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public init(_ rawValue: UInt64) { self.rawValue = rawValue }
    /// The low word of the Philox key.
    public var low: UInt32 { UInt32(truncatingIfNeeded: rawValue) }
    /// The high word of the Philox key.
    public var high: UInt32 { UInt32(truncatingIfNeeded: rawValue >> 32) }
}

/// The name of a direction. Together with the run's seed it determines the vector z completely.
public struct SampleName: Hashable, Sendable {
    public let machine: MachineID
    public let sample: SampleNumber
    public init(machine: MachineID, sample: SampleNumber) {
        self.machine = machine
        self.sample = sample
    }
}
