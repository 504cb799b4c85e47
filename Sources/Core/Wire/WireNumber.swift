/// Limits of the numbers that machines report. A message holds no others, whoever made it. So the code behind it never meets a loss, a fraction or a
/// duration that can't be one.
public enum WireNumber {
    /// Largest loss or score. Beyond it there are only infinities.
    public static let largestLoss = Double(Float.greatestFiniteMagnitude)
    /// Largest number of seconds, and of samples in a second.
    public static let largestAmount = 1e12

    /// Returns a loss unchanged, or infinite if it is too large.
    static func loss(_ value: Double) -> Double { value.magnitude > largestLoss ? (value < 0 ? -.infinity : .infinity) : value }
    /// Returns a fraction unchanged; NaN if it is not in 0…1.
    static func part(_ value: Double) -> Double { (0...1).contains(value) ? value : .nan }
    /// Returns a progress, limited to 0…1.
    static func progress(_ value: Double) -> Double { value > 0 ? min(value, 1) : 0 }
    /// Returns seconds or a rate unchanged; NaN if it is negative or too large.
    static func amount(_ value: Double) -> Double { (0...largestAmount).contains(value) ? value : .nan }
}

extension ByteReader {
    mutating func loss(_ field: String) throws(WireError) -> Double {
        let value = try double(field)
        guard value.isNaN || value.isInfinite || value.magnitude <= WireNumber.largestLoss else {
            throw .invalid(field: field, reason: "\(value) is no loss")
        }
        return value
    }

    mutating func part(_ field: String) throws(WireError) -> Double {
        let value = try double(field)
        guard value.isNaN || (0...1).contains(value) else { throw .invalid(field: field, reason: "\(value) is not between 0 and 1") }
        return value
    }

    mutating func amount(_ field: String) throws(WireError) -> Double {
        let value = try double(field)
        guard value.isNaN || (0...WireNumber.largestAmount).contains(value) else { throw .invalid(field: field, reason: "\(value) is out of range") }
        return value
    }
}
