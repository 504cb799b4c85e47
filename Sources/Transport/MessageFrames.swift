import Core

/// Returns whether training itself needs this frame, as it needs contributions and commits. A frame is a version byte, a kind byte and a body
/// (docs/reference/protocol.md).
///
/// A relay's envelope counts as what training needs if it holds such a frame.
package func trafficClass(ofFrame frame: [UInt8]) -> TrafficClass {
    if RelayFrame.isRelayFrame(frame) { return RelayFrame.holds(frame, where: isOfRounds) ? .rounds : .control }
    return frame.count >= MessageCoding.headerBytes && isOfRounds(frame[1]) ? .rounds : .control
}

private func isOfRounds(_ kind: UInt8) -> Bool {
    switch Message.Kind(rawValue: kind) {
    case .contribution, .commit: true
    default: false
    }
}
