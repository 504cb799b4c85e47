import Core

/// Returns whether training itself needs this frame, as it needs contributions and commits. A frame is a version byte, a kind byte and a body
/// (docs/reference/protocol.md).
///
/// A relay's envelope counts as what training needs if it holds such a frame.
package func trafficClass(ofFrame frame: [UInt8]) -> TrafficClass {
    if RelayFrame.isRelayFrame(frame) {
        switch try? RelayFrame(decoding: frame) {
        case .up(let frames): return frames.contains { isOfRounds($0.frame) } ? .rounds : .control
        case .down(let frames): return frames.contains { isOfRounds($0.frame) } ? .rounds : .control
        case .ping, .pong, nil: return .control
        }
    }
    return isOfRounds(frame) ? .rounds : .control
}

private func isOfRounds(_ frame: [UInt8]) -> Bool {
    guard frame.count >= MessageCoding.headerBytes else { return false }
    switch Message.Kind(rawValue: frame[1]) {
    case .contribution, .commit: return true
    default: return false
    }
}
