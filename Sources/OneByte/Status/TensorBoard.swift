import Core
import Foundation

/// A run's curves as a TensorBoard event file. It is a sequence of TFRecords: a length (UInt64, little-endian), the length's masked CRC-32C, a
/// protocol buffer `Event`, and its masked CRC-32C.
///
/// The fields are from tensorflow/core/util/event.proto and framework/summary.proto: Event { double wall_time = 1; int64 step = 2; string
/// file_version = 3; Summary summary = 5 }, Summary { repeated Value value = 1 }, Value { string tag = 1; float simple_value = 2 }.
package enum TensorBoard {
    /// Returns a file's whole contents. Steps are numbers of committed rounds.
    package static func file(_ points: [RunHistory.Point]) -> [UInt8] {
        let begin = points.first?.time ?? 0
        var file = record(event(time: begin) { $0.field(3, text: "brain.Event:2") })
        for point in points {
            for (tag, value) in scalars(of: point) {
                file += record(
                    event(time: point.time) {
                        $0.field(2, varint: UInt64(max(0, point.round)))
                        var scalar = ProtocolBuffer()
                        scalar.field(1, text: tag)
                        scalar.field(2, float: Float(value))
                        var summary = ProtocolBuffer()
                        summary.field(1, bytes: scalar.bytes)
                        $0.field(5, bytes: summary.bytes)
                    })
            }
        }
        return file
    }

    /// Returns a file name of the form that TensorBoard looks for in a directory.
    package static func fileName(_ points: [RunHistory.Point]) -> String { "events.out.tfevents.\(whole(points.first?.time ?? 0)).onebyte" }

    /// Returns the curves that a point belongs to, and its values there.
    package static func scalars(of point: RunHistory.Point) -> [(tag: String, value: Double)] {
        let all: [(String, Double?)] =
            switch point.kind {
            case .round:
                [
                    ("training/loss", point.loss), ("training/learning_rate", point.learningRate), ("training/mean_magnitude", point.meanMagnitude),
                    ("wire/bytes", Double(point.bytes)), ("wire/samples", Double(point.samples)),
                ]
            case .evaluation:
                [
                    ("evaluation/loss", point.loss), ("evaluation/accuracy", point.accuracy), ("validation/loss", point.validationLoss),
                    ("validation/accuracy", point.validationAccuracy),
                ]
            case .worker: [("workers/\(point.worker ?? "") \(point.machine.map { "\($0)" } ?? "-") loss", point.loss)]
            case .event: []
            }
        return all.compactMap { tag, value in value.map { (tag, $0) } }
    }

    private static func event(time: Double, _ fill: (inout ProtocolBuffer) -> Void) -> [UInt8] {
        var event = ProtocolBuffer()
        event.field(1, double: time)
        fill(&event)
        return event.bytes
    }

    package static func record(_ payload: [UInt8]) -> [UInt8] {
        let length = littleEndian(UInt64(payload.count))
        return length + littleEndian(masked(CRC32C.checksum(length))) + payload + littleEndian(masked(CRC32C.checksum(payload)))
    }

    /// Masks a checksum, because a plain CRC of data that hold CRCs is weak (tensorflow/core/lib/hash/crc32c.h).
    private static func masked(_ checksum: UInt32) -> UInt32 { (checksum >> 15 | checksum << 17) &+ 0xa282_ead8 }

    private static func littleEndian(_ value: some FixedWidthInteger) -> [UInt8] { withUnsafeBytes(of: value.littleEndian) { [UInt8]($0) } }

    /// A writer of the few wire types of protocol buffers that are needed.
    private struct ProtocolBuffer {
        private(set) var bytes: [UInt8] = []

        mutating func field(_ number: UInt64, varint: UInt64) {
            append(number << 3)
            append(varint)
        }
        mutating func field(_ number: UInt64, double: Double) {
            append(number << 3 | 1)
            bytes += littleEndian(double.bitPattern)
        }
        mutating func field(_ number: UInt64, bytes: [UInt8]) {
            append(number << 3 | 2)
            append(UInt64(bytes.count))
            self.bytes += bytes
        }
        mutating func field(_ number: UInt64, text: String) { field(number, bytes: Array(text.utf8)) }
        mutating func field(_ number: UInt64, float: Float) {
            append(number << 3 | 5)
            bytes += littleEndian(float.bitPattern)
        }

        private mutating func append(_ varint: UInt64) {
            var rest = varint
            while rest > 0x7f {
                bytes.append(UInt8(rest & 0x7f) | 0x80)
                rest >>= 7
            }
            bytes.append(UInt8(rest))
        }
    }
}
