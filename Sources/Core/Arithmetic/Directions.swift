internal import Kernels

/// The rule that turns a sample's name into a direction z for every trained tensor (docs/reference/arithmetic.md). It follows from the run's seed,
/// family and sampling. The run's momentum belongs to it, so that no code that applies rounds can forget it.
public struct Directions: Sendable, Hashable {
    public let seed: RunSeed
    /// The family of all tensors that are not adapters. An adapter's directions are signs in every family.
    public let family: PerturbationFamily
    /// How the directions of a machine's samples relate to each other.
    public let sampling: DirectionSampling
    /// The adapters' coordinates; empty if the run has no adapter.
    public let coordinates: AdapterCoordinates
    /// The momentum of the run's steps; nil: each round changes the parameters by its own delta alone.
    public let momentum: Momentum?

    /// Creates the directions of a run that samples at random and has no momentum.
    public init(seed: RunSeed, family: PerturbationFamily) {
        self.init(seed: seed, family: family, sampling: .random, coordinates: .none, momentum: nil)
    }

    /// - Parameters:
    ///   - seed: the run's seed.
    ///   - family: the family of all tensors that are not adapters.
    ///   - sampling: the run spec's value; nil: random.
    ///   - tensors: all tensors that the run trains, in any order.
    ///   - momentum: the run spec's value; nil: none.
    /// - Throws: `DirectionError` if orthogonal samples or momentum are asked for and a tensor is not an adapter, or if the adapters have too many
    ///   coordinates.
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

    /// Creates the directions of a run.
    ///
    /// - Parameters:
    ///   - spec: the run's spec.
    ///   - tensors: all tensors that the run trains, in any order.
    /// - Throws: `DirectionError` if orthogonal samples or momentum are asked for and a tensor is not an adapter, or if the adapters have too many
    ///   coordinates.
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

    /// The purpose of a tensor's random vector. Together with the tensor's index it gives the number of Philox's stream.
    enum Role: UInt32 {
        case elements = 0
        case rows = 1
        case columns = 2
    }

    /// F, the fraction bits of Z: the functions below return the integers Z = z·2^F.
    ///
    /// A tensor with one dimension has signs for elements even if the run's matrices have a basis, so its F is 0. F = 5 and Z = ±32 would give the
    /// same parameters.
    public func fractionBits(of tensor: TrainedTensor) -> Int {
        if tensor.isAdapter { return 0 }
        return switch (family, tensor.shape) {
        case (.gaussian, _): 5
        case (.rank1, .matrix) where tensor.basis != nil: 5
        default: 0
        }
    }

    /// Whether the tensor's direction is an outer product, which `rank1Factors` then returns.
    public func isRank1(_ tensor: TrainedTensor) -> Bool {
        if family == .rank1, !tensor.isAdapter, case .matrix = tensor.shape { true } else { false }
    }

    /// Writes the factors of a matrix's direction: z_ij = a_i·b_j·2^−F.
    ///
    /// - Parameters:
    ///   - tensor: a tensor for which `isRank1` holds.
    ///   - name: the sample.
    ///   - a: receives `rows` values ±1.
    ///   - b: receives `columns` values: ±1, or b̃ in −127…127 if the tensor has a basis.
    public func rank1Factors(
        of tensor: TrainedTensor, _ name: SampleName, a: UnsafeMutablePointer<Int8>, b: UnsafeMutablePointer<Int8>
    ) {
        guard case .matrix(let rows, _) = tensor.shape else {
            preconditionFailure("\(tensor.name) is no matrix")
        }
        rowSigns(of: tensor, name, rows: 0..<rows, into: a)
        columnFactors(of: tensor, name, into: b)
    }

    /// Writes the factors of many directions, one direction after the other: names.count × rows values into `a` and names.count × columns values into
    /// `b`.
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

    /// Writes Z for the tensor's elements `elements`, row-major. This is for directions that are not outer products: all tensors of the dense
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

    /// Writes a, the signs of the rows `rows`.
    func rowSigns(of tensor: TrainedTensor, _ name: SampleName, rows: Range<Int>, into output: UnsafeMutablePointer<Int8>) {
        var vector = vector(.rows, of: tensor, name)
        ob_signs(&vector, UInt64(rows.lowerBound), rows.count, output)
    }

    /// Writes b, or b̃ if the tensor has a basis.
    func columnFactors(of tensor: TrainedTensor, _ name: SampleName, into output: UnsafeMutablePointer<Int8>) {
        guard case .matrix(_, let columns) = tensor.shape else { return }
        var vector = vector(.columns, of: tensor, name)
        ob_signs(&vector, 0, columns, output)
        if let basis = tensor.basis {
            basis.values.withUnsafeBufferPointer { ob_damp(output, $0.baseAddress, basis.components, columns, output) }
        }
    }

    func stream(_ role: Role, of tensor: TrainedTensor) -> UInt32 { 4 &* tensor.index &+ role.rawValue }

    private func vector(_ role: Role, of tensor: TrainedTensor, _ name: SampleName) -> ob_vector {
        ob_vector(
            key: (seed.low, seed.high), stream: stream(role, of: tensor), sample: name.sample,
            machine: name.machine.rawValue)
    }
}

/// The variant of the integer kernels that this process runs: `amx`, `avx512vbmi`, `avx512vnni`, `avx512`, `avx2`, `neondot`, `neon` or `portable`.
/// The environment variable ONEBYTE_KERNELS chooses another variant, if the processor can run it.
public var kernelVariant: String { String(cString: ob_kernels_name()) }

/// The variants that this processor can run, best first. All give the same bits.
public var kernelVariants: [String] {
    Array(
        sequence(state: 0) { index -> String? in
            defer { index += 1 }
            return ob_kernels_available(index).map { String(cString: $0) }
        })
}
