internal import Kernels

/// The vectors behind the names: a run's seed and family turn a sample's name into a direction z for every trained tensor
/// (docs/arithmetic.md). With them comes the run's momentum, so that nobody who applies rounds can forget it.
public struct Directions: Sendable, Hashable {
    public let seed: RunSeed
    /// For tensors that are no adapters; an adapter's directions are signs in every family.
    public let family: PerturbationFamily
    public let sampling: DirectionSampling
    /// The adapters' coordinates; empty where the run has no adapter.
    public let coordinates: AdapterCoordinates
    /// How steps go on; nil: each round changes the parameters by its own delta alone.
    public let momentum: Momentum?

    /// Directions of a run that samples at random and has no momentum.
    public init(seed: RunSeed, family: PerturbationFamily) {
        self.init(seed: seed, family: family, sampling: .random, coordinates: .none, momentum: nil)
    }

    /// - Parameters:
    ///   - sampling: the run spec's; nil: random.
    ///   - tensors: all tensors that the run trains, in any order.
    ///   - momentum: the run spec's; nil: none.
    /// - Throws: `DirectionError` where orthogonal samples or momentum are asked for and a tensor is no adapter, or where the adapters have
    ///   too many coordinates.
    public init(
        seed: RunSeed, family: PerturbationFamily, sampling: DirectionSampling?, tensors: [TrainedTensor], momentum: Double? = nil
    ) throws(DirectionError) {
        if let other = tensors.first(where: { !$0.isAdapter }) {
            if sampling == .orthogonal { throw .notAnAdapter(other.name) }
            if momentum != nil { throw .momentumOf(other.name) }
        }
        self.init(
            seed: seed, family: family, sampling: sampling ?? .random, coordinates: try AdapterCoordinates(of: tensors),
            momentum: momentum.map { Momentum(cap: $0) })
    }

    /// The directions of a run.
    ///
    /// - Parameter tensors: all tensors that the run trains, in any order.
    /// - Throws: `DirectionError` where orthogonal samples or momentum are asked for and a tensor is no adapter, or where the adapters have
    ///   too many coordinates.
    public init(_ spec: RunSpec, tensors: [TrainedTensor]) throws(DirectionError) {
        try self.init(seed: RunSeed(spec.seed), family: spec.perturbation, sampling: spec.sampling, tensors: tensors, momentum: spec.momentum)
    }

    private init(
        seed: RunSeed, family: PerturbationFamily, sampling: DirectionSampling, coordinates: AdapterCoordinates, momentum: Momentum?
    ) {
        self.seed = seed
        self.family = family
        self.sampling = sampling
        self.coordinates = coordinates
        self.momentum = momentum
    }

    /// What a random vector of a tensor is for; with the tensor's index it makes Philox's stream.
    enum Role: UInt32 {
        case elements = 0
        case rows = 1
        case columns = 2
    }

    /// F: the integers that the functions below give are Z = z·2^F.
    ///
    /// A vector of a shaped run is made of signs, so F is 0 here; F = 5 and Z = ±32 would give the same parameters.
    public func fractionBits(of tensor: TrainedTensor) -> Int {
        if tensor.isAdapter { return 0 }
        return switch (family, tensor.shape) {
        case (.gaussian, _): 5
        case (.rank1, .matrix) where tensor.basis != nil: 5
        default: 0
        }
    }

    /// Whether the direction of this tensor is an outer product, so that `rank1Factors` says it.
    public func isRank1(_ tensor: TrainedTensor) -> Bool {
        if family == .rank1, !tensor.isAdapter, case .matrix = tensor.shape { true } else { false }
    }

    /// The factors of a matrix's direction: z_ij = a_i·b_j·2^−F.
    ///
    /// - Parameters:
    ///   - tensor: one for which `isRank1` holds.
    ///   - a: `rows` values ±1.
    ///   - b: `columns` values: ±1, or b̃ in −127…127 where the tensor has a basis.
    public func rank1Factors(
        of tensor: TrainedTensor, _ name: SampleName, a: UnsafeMutablePointer<Int8>, b: UnsafeMutablePointer<Int8>
    ) {
        guard case .matrix(let rows, _) = tensor.shape else {
            preconditionFailure("\(tensor.name) is no matrix")
        }
        rowSigns(of: tensor, name, rows: 0..<rows, into: a)
        columnFactors(of: tensor, name, into: b)
    }

    /// The factors of many directions, direction after direction: `a` has names.count × rows values, `b` names.count ×
    /// columns.
    public func rank1Factors(
        of tensor: TrainedTensor, _ names: some Collection<SampleName>, a: UnsafeMutablePointer<Int8>,
        b: UnsafeMutablePointer<Int8>
    ) {
        guard case .matrix(let rows, let columns) = tensor.shape else {
            preconditionFailure("\(tensor.name) is no matrix")
        }
        for (i, name) in names.enumerated() {
            rowSigns(of: tensor, name, rows: 0..<rows, into: a + i * rows)
            columnFactors(of: tensor, name, into: b + i * columns)
        }
    }

    /// Z of the tensor's elements `elements`, row-major, where its direction is no outer product: all tensors of the dense
    /// families, the vectors of `rank1`, and every adapter, whose Z are signs ±1.
    public func dense(
        of tensor: TrainedTensor, _ name: SampleName, elements: Range<Int>, into output: UnsafeMutablePointer<Int8>
    ) {
        precondition(!isRank1(tensor), "\(tensor.name) has rank-1 directions")
        if sampling == .orthogonal { return orthogonalSigns(of: tensor, name, elements: elements, into: output) }
        var vector = vector(.elements, of: tensor, name)
        if family == .gaussian, !tensor.isAdapter {
            ob_gaussians(&vector, UInt64(elements.lowerBound), elements.count, output)
        } else {
            ob_signs(&vector, UInt64(elements.lowerBound), elements.count, output)
        }
    }

    /// a: signs of the rows `rows`.
    func rowSigns(of tensor: TrainedTensor, _ name: SampleName, rows: Range<Int>, into output: UnsafeMutablePointer<Int8>) {
        var vector = vector(.rows, of: tensor, name)
        ob_signs(&vector, UInt64(rows.lowerBound), rows.count, output)
    }

    /// b, or b̃ where the tensor has a basis.
    func columnFactors(of tensor: TrainedTensor, _ name: SampleName, into output: UnsafeMutablePointer<Int8>) {
        guard case .matrix(_, let columns) = tensor.shape else { return }
        var vector = vector(.columns, of: tensor, name)
        ob_signs(&vector, 0, columns, output)
        if let basis = tensor.basis {
            basis.values.withUnsafeBufferPointer { ob_shape(output, $0.baseAddress, basis.components, columns, output) }
        }
    }

    func stream(_ role: Role, of tensor: TrainedTensor) -> UInt32 { 4 &* tensor.index &+ role.rawValue }

    private func vector(_ role: Role, of tensor: TrainedTensor, _ name: SampleName) -> ob_vector {
        ob_vector(
            key: (seed.low, seed.high), stream: stream(role, of: tensor), sample: name.sample,
            machine: name.machine.rawValue)
    }
}

/// Which variant of the integer kernels this process runs: `amx`, `avx512vbmi`, `avx512vnni`, `avx512`, `avx2`, `neondot`, `neon` or
/// `portable`. The environment's ONEBYTE_KERNELS chooses another one that the processor has.
public var kernelVariant: String { String(cString: ob_kernels_name()) }

/// The variants that this processor can run, best first. All give the same bits.
public var kernelVariants: [String] {
    Array(
        sequence(state: 0) { index -> String? in
            defer { index += 1 }
            return ob_kernels_available(index).map { String(cString: $0) }
        })
}
