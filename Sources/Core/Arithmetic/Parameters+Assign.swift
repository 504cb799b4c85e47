import Synchronization

extension Parameters {
    /// Takes over the values of other parameters in place, and with momentum their rounds and velocities, for a machine that builds its own
    /// again: whoever holds these parameters sees the new values.
    ///
    /// - Returns: false, with nothing changed, where the other's tensors or exponents are not the same.
    public func assign(_ other: Parameters) -> Bool {
        guard tensors == other.tensors, tensors.indices.allSatisfy({ exponent(at: $0) == other.exponent(at: $0) }) else { return false }
        for index in tensors.indices { _ = memory[index].update(from: other.integers(at: index)) }
        let state = other.momentum.withLock { $0 }
        momentum.withLock { $0 = state }
        isReplayable = other.isReplayable
        return true
    }
}
