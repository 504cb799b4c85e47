/// A moment as a shell hands it to a state machine: nanoseconds since the Unix epoch. They are read from a monotonic clock that was set by the wall
/// clock once, when the process started. So time never runs backwards, and it is still the time of day.
public struct Timestamp: Hashable, Comparable, Sendable {
    /// Nanoseconds since the Unix epoch.
    public let nanoseconds: UInt64
    public init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

    public static func < (a: Self, b: Self) -> Bool { a.nanoseconds < b.nanoseconds }

    /// Whole seconds since the Unix epoch, as the ledger records them.
    public var unixSeconds: UInt64 { nanoseconds / 1_000_000_000 }

    /// Returns this moment plus `seconds` (≥ 0). It saturates.
    public func advanced(bySeconds seconds: Double) -> Timestamp {
        let added = nanoseconds.addingReportingOverflow(seconds > 0 ? UInt64(min(seconds * 1e9, 9e18)) : 0)
        return Timestamp(nanoseconds: added.overflow ? .max : added.partialValue)
    }

    /// Returns the seconds from `earlier` to this moment; 0 if `earlier` is later.
    public func seconds(since earlier: Timestamp) -> Double {
        nanoseconds > earlier.nanoseconds ? Double(nanoseconds - earlier.nanoseconds) / 1e9 : 0
    }
}
