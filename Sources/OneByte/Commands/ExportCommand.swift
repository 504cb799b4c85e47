import ArgumentParser
import Core
import Foundation
import LanguageModel
import Training

struct ExportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export",
        abstract: "Write a fine-tuned model for other programs: a merged model, a GGUF file, a LoRA adapter, or its numbers.",
        discussion: joined(
            """
            From base model and ledger alone, also while the run goes on:

              onebyte export --model SmolLM2.gguf --ledger runs/reviews --output exported

            As it was at a round; half the size:

              onebyte export --model SmolLM2.gguf --ledger runs/reviews \\
                --at-round 200 --data-type bf16 --output exported-200

            From the parameters that a worker wrote (onebyte worker --snapshot; SIGUSR1 \
            asks a running worker for them):

              onebyte export --model SmolLM2.gguf --ledger runs/reviews \\
                --snapshot worker.snapshot --output exported

            Then, in Python:

              AutoModelForCausalLM.from_pretrained("exported")

            For llama.cpp, as one file:

              onebyte export --model SmolLM2.gguf --ledger runs/reviews \\
                --format gguf --data-type q8_0 --output reviews.gguf

            A run that trains adapters alone is also a LoRA adapter, or some numbers:

              onebyte export --model SmolLM2.gguf --ledger runs/reviews \\
                --format peft --output adapter
              onebyte export --model SmolLM2.gguf --ledger runs/reviews \\
                --format numbers
            """))

    @Option(help: .of(.model)) var model: String
    @OptionGroup var ledger: LedgerFlags
    @Option(help: ArgumentHelp("Take the parameters from here; the ledger only says which they are.", valueName: "file"))
    var snapshot: String?
    @Option(
        name: .shortAndLong, help: ArgumentHelp("Where the model goes: a directory, or a file for gguf; not needed for numbers.", valueName: "path"))
    var output: String?
    @Option(
        help: ArgumentHelp(
            "merged: a model that transformers loads; gguf: a file that llama.cpp runs; peft: a LoRA adapter; "
                + "numbers: the adapters' coordinates on standard output.",
            valueName: "format"))
    var format = Format.merged
    @Option(
        help: ArgumentHelp(
            "f32 keeps trained values as they are; f16 and bf16 halve the size and round; q8_0, for gguf, quarters it. "
                + "Without it, the base's own type; f32 for quantised bases and for peft.",
            valueName: "type"))
    var dataType: WeightType?
    @Flag(help: "Replace what is there.") var overwrite = false
    @OptionGroup var threads: ThreadFlags

    enum Format: String, CaseIterable, ExpressibleByArgument { case merged, gguf, peft, numbers }

    enum WeightType: String, CaseIterable, ExpressibleByArgument {
        case f32, f16, bf16
        case q8 = "q8_0"

        var elementType: ElementType {
            switch self {
            case .f32: .f32
            case .f16: .f16
            case .bf16: .bf16
            case .q8: .q8_0
            }
        }
    }

    func validate() throws {
        if format != .numbers, (output ?? "").isEmpty { throw ValidationError("say where the model goes: --output DIRECTORY") }
        if format == .numbers, output != nil || overwrite || dataType != nil {
            throw ValidationError("--format numbers writes to standard output, as whole numbers: leave out --output, --overwrite and --data-type")
        }
        if dataType == .q8, format != .gguf {
            throw ValidationError("--data-type q8_0 is a type of GGUF files: add --format gguf, or choose f32, f16 or bf16")
        }
        if format == .peft || format == .numbers, ledger.ledger == nil {
            throw ValidationError("--format \(format.rawValue) writes what a ledger has trained: give --ledger")
        }
        if snapshot != nil, ledger.ledger == nil { throw ValidationError("--snapshot needs --ledger, which says what the parameters are") }
        if snapshot != nil, ledger.atRound != nil { throw ValidationError("a snapshot has its own round; leave out --at-round") }
    }

    func run() throws {
        var (source, parameters, round, basis): (ModelSource, Parameters?, RoundNumber?, RunBasis?)
        var archive: LedgerArchive?
        if let snapshot, let path = ledger.ledger {
            let found = try LedgerArchive(path)
            (source, parameters, round) = try fromSnapshot(snapshot, found)
            (basis, archive) = (found.basis, found)
        } else {
            let state = try ModelState.load(model: model, ledger: ledger.ledger, atRound: ledger.atRound, threads: threads.count)
            (source, parameters, round, basis) = (state.source, state.parameters, state.ledger?.history.nextRound, state.ledger?.basis)
            archive = state.ledger
        }
        if format == .numbers { return try printNumbers(parameters) }
        guard let output else { return }
        var exporter = ModelExporter(source: source)
        exporter.dataType = dataType?.elementType ?? (format == .peft ? .f32 : source.writtenType(asGGUF: format == .gguf))
        exporter.overwrites = overwrite
        var replacing: [String: ModelExporter.Values] = [:]
        if let parameters, let round, let archive, let path = ledger.ledger {
            let card = try ModelCard(
                archive, base: model, source: source, round: round, digest: parameters.digest(threads: threads.count), isAdapter: format == .peft,
                ledger: path)
            exporter.card = card.markdown
            exporter.changes = try AdapterChange.all(source: source, parameters: parameters, basis: basis)
            exporter.format = format == .peft ? .peft : .merged
            for (index, tensor) in parameters.tensors.enumerated() where !tensor.isAdapter {
                replacing[tensor.name] = { range, out in parameters.copyFloats(at: index, elements: range, into: out) }
            }
        }
        let count = source.tensorNames.count
        var meter = Meter("writing")
        var done = 0
        try stoppable { isStopped in
            let progress = { (_: String) -> Bool in
                done += 1
                return meter.show(min(done, count), of: count) && !isStopped()
            }
            if format == .gguf {
                try exporter.writeGGUF(to: output, replacing: replacing, progress: progress)
            } else {
                try exporter.write(to: output, replacing: replacing, progress: progress)
            }
        }
        meter.end()
        let moment = round.map { ", as at round \($0)" } ?? ""
        let changed =
            exporter.changes.count == 1 && exporter.changes[0].isHead
            ? "the head" : "\(exporter.changes.count) matri\(exporter.changes.count == 1 ? "x" : "ces")"
        if format == .peft {
            let rank = exporter.changes.map(\.rank).max() ?? 0
            standardOutput.write("\(output): a LoRA adapter of \(changed), rank \(rank)\(moment)")
        } else {
            let adapted = exporter.changes.isEmpty ? "" : ", \(changed) with \(exporter.changes.count == 1 ? "its adapter" : "their adapters")"
            standardOutput.write("\(output): \(count) tensors in \(exporter.dataType), \(replacing.count) of them trained\(adapted)\(moment)")
        }
    }

    /// Prints each adapter's C, one line per output. Together with the base model and the ledger's basis these numbers are the model.
    private func printNumbers(_ parameters: Parameters?) throws {
        guard let parameters else { return }
        let others = parameters.tensors.filter { !$0.isAdapter }
        guard others.count < parameters.tensors.count else {
            throw ProcessFailure(.usage, "the run trains no adapter, and only adapters are so small\nwrite the whole model: --format merged")
        }
        if !others.isEmpty {
            standardError.write(
                "note: the run also trains \(others.count == 1 ? others[0].name : "\(others.count) tensors") of the model, which these numbers leave out; --format merged writes all"
            )
        }
        for (index, tensor) in parameters.tensors.enumerated() where tensor.isAdapter {
            guard case .matrix(let rows, let columns) = tensor.shape else { continue }
            standardOutput.write("\(tensor.name): \(rows) × \(columns) integers; value = integer · 2^−\(parameters.exponent(at: index))")
            let integers = parameters.integers(at: index)
            for row in 0..<rows {
                standardOutput.write(integers[row * columns..<(row + 1) * columns].map(String.init).joined(separator: " "))
            }
        }
    }

    private func fromSnapshot(_ path: String, _ archive: LedgerArchive) throws -> (ModelSource, Parameters?, RoundNumber?) {
        let data: Data
        do {
            data = try Data(contentsOf: URL(fileURLWithPath: path), options: .mappedIfSafe)
        } catch {
            throw ProcessFailure(.missingInput, "\(path): can't read the snapshot: \(systemReason(of: error))")
        }
        if let foreign = ForeignFormat(start: Array(data.prefix(ForeignFormat.bytesNeeded)), path: path, isTaken: isFile) {
            throw ProcessFailure(.badData, "\(path): \(foreign.problem)\n\(foreign.remedy)")
        }
        let source = try openModel(model)
        try archive.checkBase(source, threads: threads.count)
        let tensors = try source.trainedTensors(matching: archive.summary.spec.train, basis: archive.basis)
        return try data.withUnsafeBytes { bytes in
            let position = try Parameters.positionOfSnapshot(bytes)
            guard position.run == archive.summary.specDigest else {
                let runs = position.run.contrasted(with: archive.summary.specDigest)
                throw ProcessFailure(.badData, "\(path) is of the run \(runs.own), the ledger of \(runs.other)")
            }
            return (source, try Parameters(tensors: tensors, snapshot: bytes), position.nextRound)
        }
    }
}
