import Core

/// Returns whether training itself needs this frame, as it needs contributions and commits. A frame is a version byte, a kind byte and a body
/// (docs/reference/protocol.md).
package func trafficClass(ofFrame frame: [UInt8]) -> TrafficClass {
    guard frame.count >= 2 else { return .control }
    switch Message.Kind(rawValue: frame[1]) {
    case .contribution, .commit: return .rounds
    default: return .control
    }
}
