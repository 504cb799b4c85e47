import Foundation

/// One result, printed as a line of JSON on stdout.
struct Figure: Codable {
    let key: String
    let value: Double
    let unit: String

    static func print(_ key: String, _ value: Double, _ unit: String) throws {
        try writeLine(Figure(key: key, value: value, unit: unit))
    }
}

/// Writes one JSON object as a line on stdout, without buffering.
func writeLine(_ value: some Encodable) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    try FileHandle.standardOutput.write(contentsOf: try encoder.encode(value) + [0x0a])
}

/// Writes a message for people to stderr.
func say(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }
