/// Whether a machine's recent bytes are of use. A byte that is 'no value' or saturated says little; a machine that sends mostly such
/// has broken data, a wrong precision, or bad intentions.
struct ByteHealth: Sendable {
    enum Change: Hashable { case worsened, recovered }

    /// Bytes that are looked at before a judgement; the memory is halved at twice as many.
    static let window = 512
    /// From here on a byte counts as saturated: nobody stays below 127 by accident for long.
    static let saturation = 120
    private var seen = 0
    private var useless = 0
    private(set) var isBad = false

    /// Takes a machine's bytes of a round into account.
    ///
    /// - Returns: what they changed, if anything: half of the bytes useless is bad, under a quarter is good again.
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
