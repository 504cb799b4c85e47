/// The numbers that machines report. A message holds no other ones, whoever made it, so that nobody behind the door meets a number that is
/// no loss, no part of a whole, no duration.
public enum WireNumber {
    /// Of a loss or a score; beyond it only infinities.
    public static let largestLoss = Double(Float.greatestFiniteMagnitude)
    /// Of seconds, and of samples a second.
    public static let largestAmount = 1e12

    /// A loss: as it is, or infinite where it is too large.
    static func loss(_ value: Double) -> Double { value.magnitude > largestLoss ? (value < 0 ? -.infinity : .infinity) : value }
    /// A part of a whole; NaN where it is none.
    static func part(_ value: Double) -> Double { (0...1).contains(value) ? value : .nan }
    /// How far something is: 0…1.
    static func progress(_ value: Double) -> Double { value > 0 ? min(value, 1) : 0 }
    /// Seconds or a rate; NaN where it is none.
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
        guard value.isNaN || (0...1).contains(value) else { throw .invalid(field: field, reason: "\(value) is no part of a whole") }
        return value
    }

    mutating func amount(_ field: String) throws(WireError) -> Double {
        let value = try double(field)
        guard value.isNaN || (0...WireNumber.largestAmount).contains(value) else { throw .invalid(field: field, reason: "\(value) is out of range") }
        return value
    }
}
