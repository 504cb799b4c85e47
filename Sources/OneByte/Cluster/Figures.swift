import Foundation

/// Formats 12345678 as 12,345,678.
func grouped(_ number: some BinaryInteger) -> String {
    let digits = String(number.magnitude)
    var text = number < 0 ? "-" : ""
    for (offset, digit) in digits.enumerated() {
        if offset > 0, (digits.count - offset) % 3 == 0 { text += "," }
        text.append(digit)
    }
    return text
}

func fixed(_ number: Double, _ places: Int) -> String { String(format: "%.\(places)f", number) }

/// Returns the nearest whole number; 0 for NaN, ±10¹⁵ for numbers beyond.
func whole(_ number: Double) -> Int { number.isNaN ? 0 : Int(min(max(number.rounded(), -1e15), 1e15)) }

/// Formats 0.8251 as 82.5 %.
func percent(_ share: Double) -> String { String(format: "%.1f %%", share * 100) }

/// Formats 83.4 seconds as 1:23.
func duration(_ seconds: Double) -> String {
    guard seconds.isFinite, seconds >= 0, seconds < 1e9 else { return "?" }
    let whole = Int(seconds.rounded())
    let (hours, minutes) = (whole / 3600, whole / 60 % 60)
    return hours > 0 ? String(format: "%d:%02d:%02d", hours, minutes, whole % 60) : String(format: "%d:%02d", minutes, whole % 60)
}

/// Formats a number as a Float, without the last bits of a calculation: 0.15 for 0.14999999999999997.
package func significant(_ value: Double) -> String { "\(Float(value))" }
