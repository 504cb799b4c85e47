/// How the directions of a machine's samples relate to each other.
public enum DirectionSampling: String, Codable, Hashable, Sendable, CaseIterable {
    /// Each sample's direction is drawn independently.
    case random
    /// A machine's samples come in blocks whose directions are orthogonal, so that a whole block gives the gradient exactly. Requires that every
    /// trained tensor is an adapter.
    case orthogonal
}
