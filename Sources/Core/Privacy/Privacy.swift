/// Differential privacy of a run's bytes. Each machine clips what an example adds to its bytes, adds noise, and stops when its budget is spent
/// (docs/guide/privacy.md).
///
/// Two data sets of a machine are neighbours if one example of one of them is replaced by nothing, while the number of examples stays the same and
/// is public. A machine's bytes for one batch are made from Σ v_i + noise, where v_i holds example i's projected gradients along all directions that
/// are tried on the batch together, clipped as one vector.
public struct Privacy: Codable, Hashable, Sendable {
    /// The largest root mean square of an example's projected gradients. With a whole block of orthogonal directions this is the largest norm of an
    /// example's gradient.
    public var clip: Double
    /// σ: the noise's standard deviation, as a multiple of the largest length of an example's clipped vector.
    public var noiseMultiplier: Double
    /// The budget of each machine, (ε, δ). A machine whose next bytes would exceed it gives no value from then on.
    public var epsilon: Double
    public var delta: Double

    public init(clip: Double, noiseMultiplier: Double, epsilon: Double, delta: Double) {
        self.clip = clip
        self.noiseMultiplier = noiseMultiplier
        self.epsilon = epsilon
        self.delta = delta
    }

    /// ρ of one release: of the bytes that a machine gives for one batch.
    public var rhoOfRelease: Double { PrivacyLoss.rho(noiseMultiplier: noiseMultiplier) }

    /// ε at the run's δ after so many releases that read the same example.
    public func epsilon(releases: Int) -> Double { PrivacyLoss.epsilon(rho: Double(releases) * rhoOfRelease, delta: delta) }
}
