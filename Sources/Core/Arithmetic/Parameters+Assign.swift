import Synchronization

extension Parameters {
    /// Copies the values of other parameters into these, in place, and with momentum also their rounds and velocities. A machine that rebuilds its
    /// parameters uses it: all code that holds this object sees the new values.
    ///
    /// - Returns: false, with nothing changed, if the tensors or the exponents of the two differ.
    public func assign(_ other: Parameters) -> Bool {
        guard tensors == other.tensors, tensors.indices.allSatisfy({ exponent(at: $0) == other.exponent(at: $0) }) else { return false }
        for index in tensors.indices { _ = memory[index].update(from: other.integers(at: index)) }
        let state = other.momentum.withLock { $0 }
        momentum.withLock { $0 = state }
        isReplayable = other.isReplayable
        return true
    }
}
