import Core

extension ModelSource {
    /// Writes the values of rows of one of the model's tensors.
    package typealias Rows = (Range<Int>, UnsafeMutablePointer<Float>) -> Void

    /// Returns the tensors of a file, in no order. A file's tensor that holds several of the model's is joined from them.
    ///
    /// - Parameters:
    ///   - format: the format's place of a tensor: `\.file` for a Hugging Face directory, `\.gguf` for a GGUF file.
    ///   - rows: source of the values of a model's tensor.
    func fileTensors(
        in format: KeyPath<ExpectedTensor, ExpectedTensor.Place> = \.file, _ rows: (String, StoredTensor) -> Rows
    ) -> [OutputTensor] {
        let numbers = format == \.file ? activationTensors : []
        let groups = Dictionary(grouping: configuration.tensors) { $0[keyPath: format].name }
        return numbers
            + groups.values.compactMap { group -> OutputTensor? in
                let place = group[0][keyPath: format]
                let parts = group.compactMap { expected in
                    stored[expected.name].map { FilePart(rows: rows(expected.name, $0), shape: expected.shape, view: expected[keyPath: format].view) }
                }
                guard let first = parts.first else { return nil }
                if parts.count == 1, first.view == TensorView() {
                    return OutputTensor(name: place.name, shape: first.shape, copyRows: first.rows)
                }
                let shape =
                    place.dimensions.count == 1
                    ? TensorShape.vector(place.dimensions[0]) : .matrix(rows: place.dimensions[0], columns: place.dimensions[1])
                let whole = JoinedTensor(parts, shape: shape)
                return OutputTensor(name: place.name, shape: shape) { whole.copyRows($0, into: $1) }
            }
    }
}

extension ModelSource {
    /// The numbers of activations, which are no tensors of the model but lie beside them.
    private var activationTensors: [OutputTensor] {
        configuration.description.layers.enumerated().flatMap { layer, form in
            zip(configuration.activationNames(layer: layer), form.xielu?.values ?? []).enumerated().map { i, number in
                // transformers has the first two as vectors of one number.
                OutputTensor(name: number.0, shape: .vector(1), isScalar: i > 1) { _, out in out.pointee = number.1 }
            }
        }
    }
}

/// One of the model's tensors that make up a tensor in a file.
private struct FilePart {
    let rows: ModelSource.Rows
    let shape: TensorShape
    let view: TensorView

    /// Number of rows and their length; a vector has one row per element.
    var size: (rows: Int, columns: Int) {
        switch shape {
        case .vector(let count): (count, 1)
        case .matrix(let rows, let columns): (rows, columns)
        }
    }

    /// All values as they are stored, row by row.
    func values() -> ScratchBuffer<Float> {
        let buffer = ScratchBuffer<Float>(capacity: shape.count)
        if case .vector = shape { rows(0..<1, buffer.pointer) } else { rows(0..<size.rows, buffer.pointer) }
        if view.offset != 0 { for i in 0..<shape.count { buffer.pointer[i] -= view.offset } }
        return buffer
    }
}

/// A file's tensor that is joined when its first row is requested. Only one such tensor is in memory at a time.
private final class JoinedTensor {
    private let parts: [FilePart]
    private let shape: TensorShape
    private var made: ScratchBuffer<Float>?

    init(_ parts: [FilePart], shape: TensorShape) {
        self.parts = parts
        self.shape = shape
    }

    private var columns: Int { if case .matrix(_, let columns) = shape { columns } else { shape.count } }
    private var rowCount: Int { shape.count / max(columns, 1) }

    func copyRows(_ rows: Range<Int>, into out: UnsafeMutablePointer<Float>) {
        let whole = made ?? join()
        out.update(from: whole.pointer + rows.lowerBound * columns, count: rows.count * columns)
        made = rows.upperBound == rowCount ? nil : whole
    }

    private func join() -> ScratchBuffer<Float> {
        let whole = ScratchBuffer<Float>(capacity: shape.count)
        for part in parts {
            let values = part.values()
            let size = part.size
            for row in 0..<size.rows {
                let to = part.view.storedRow(row)
                if part.view.isTransposed {
                    for column in 0..<size.columns { whole.pointer[column * columns + to] = values.pointer[row * size.columns + column] }
                } else {
                    (whole.pointer + to * size.columns).update(from: values.pointer + row * size.columns, count: size.columns)
                }
            }
        }
        return whole
    }
}
