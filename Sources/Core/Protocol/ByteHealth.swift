/// Judges whether a machine's recent bytes are useful. A byte that is 'no value' or saturated says little. A machine that sends mostly such bytes has
/// broken data, a wrong precision, or bad intentions.
struct ByteHealth: Sendable {
    enum Change: Hashable { case worsened, recovered }

    /// Number of bytes before a judgement. At twice as many the counts are halved.
    static let window = 512
    /// From this |q| on a byte counts as saturated. Bytes this large are no accident if they keep coming.
    static let saturation = 120
    private var seen = 0
    private var useless = 0
    private(set) var isBad = false

    /// Takes a machine's bytes of a round into account.
    ///
    /// - Returns: the change of the judgement, if any. A machine whose bytes are at least half useless is bad; under a quarter it is good again.
    mutating func take(_ bytes: [Int8]) -> Change? {
        seen += bytes.count
        useless += bytes.count { $0 == Contribution.noValue || abs(Int($0)) >= Self.saturation }
        while seen >= 2 * Self.window {
            seen /= 2
            useless /= 2
        }
        guard seen >= Self.window else { return nil }
        if !isBad, useless * 2 >= seen {
            isBad = true
            return .worsened
        }
        if isBad, useless * 4 < seen {
            isBad = false
            return .recovered
        }
        return nil
    }
}
