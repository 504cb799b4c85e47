import Foundation

/// One result: a line of JSON on stdout.
struct Figure: Codable {
    let key: String
    let value: Double
    let unit: String

    static func print(_ key: String, _ value: Double, _ unit: String) throws {
        try writeLine(Figure(key: key, value: value, unit: unit))
    }
}

/// One JSON object on a line of stdout, at once.
func writeLine(_ value: some Encodable) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    try FileHandle.standardOutput.write(contentsOf: try encoder.encode(value) + [0x0a])
}

/// For people, on stderr.
func say(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }
