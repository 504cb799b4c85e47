import Foundation

/// The agreement of two computations of the same samples' projected gradients.
struct Comparison {
    let correlation, slope: Double
    /// Root mean square of the differences, and their mean, both divided by the root mean square of the reference.
    let difference, bias: Double
    let samples: Int

    init(reference: [Double], _ found: [Double]) {
        let n = Double(reference.count)
        func mean(_ values: [Double]) -> Double { values.reduce(0, +) / n }
        func product(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } / n }
        let rms = product(reference, reference).squareRoot()
        let differences = zip(found, reference).map { $0 - $1 }
        let (r, f) = (mean(reference), mean(found))
        correlation = (product(reference, found) - r * f) / ((product(reference, reference) - r * r) * (product(found, found) - f * f)).squareRoot()
        slope = product(reference, found) / (rms * rms)
        difference = product(differences, differences).squareRoot() / rms
        bias = mean(differences) / rms
        samples = reference.count
    }

    /// Prints four JSON lines.
    func show(_ key: String, epsilon: Double) {
        for (name, value, unit) in [
            ("correlation", correlation, "1"), ("slope", slope, "1"), ("difference", difference, "rms of g"), ("bias", bias, "rms of g"),
        ] {
            print(
                "{\"key\": \"\(key)/\(name)\", \"value\": \(String(format: "%.5f", value)), \"unit\": \"\(unit)\", \"samples\": \(samples), \"epsilon\": \(epsilon)}"
            )
        }
        fflush(nil)
    }
}
