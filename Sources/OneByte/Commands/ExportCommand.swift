import ArgumentParser
import Core
import Foundation
import LanguageModel
import Training

struct ExportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export",
        abstract: "Write a fine-tuned model as a Hugging Face directory that transformers loads.",
        discussion: """
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
            """)

    @Option(help: .of(.model)) var model: String
    @OptionGroup var ledger: LedgerFlags
    @Option(help: ArgumentHelp("Take the parameters from here; the ledger only says which they are.", valueName: "file"))
    var snapshot: String?
    @Option(name: .shortAndLong, help: ArgumentHelp("Where the model goes.", valueName: "directory")) var output: String
    @Option(help: "f32 keeps trained values as they are; f16 and bf16 halve the size and round.") var dataType: WeightType = .f32
    @Flag(help: "Replace what is there.") var overwrite = false
    @OptionGroup var threads: ThreadFlags

    enum WeightType: String, CaseIterable, ExpressibleByArgument {
        case f32, f16, bf16

        var elementType: ElementType {
            switch self {
            case .f32: .f32
            case .f16: .f16
            case .bf16: .bf16
            }
        }
    }

    func validate() throws {
        if snapshot != nil, ledger.ledger == nil { throw ValidationError("--snapshot needs --ledger, which says what the parameters are") }
        if snapshot != nil, ledger.atRound != nil { throw ValidationError("a snapshot has its own round; leave out --at-round") }
    }

    func run() throws {
        var (source, parameters, round): (ModelSource, Parameters?, RoundNumber?)
        if let snapshot, let path = ledger.ledger {
            (source, parameters, round) = try fromSnapshot(snapshot, LedgerArchive(path))
        } else {
            let state = try ModelState.load(model: model, ledger: ledger.ledger, atRound: ledger.atRound, threads: threads.count)
            (source, parameters, round) = (state.source, state.parameters, state.ledger?.history.nextRound)
        }
        var exporter = ModelExporter(source: source)
        exporter.dataType = dataType.elementType
        exporter.overwrites = overwrite
        var replacing: [String: ModelExporter.Values] = [:]
        if let parameters, let round {
            exporter.card = "Fine-tuned with OneByte: \(round) rounds on `\(model)`. Digest of the trained parameters: `\(parameters.digest(threads: threads.count))`.\n"
            for (index, tensor) in parameters.tensors.enumerated() {
                replacing[tensor.name] = { range, out in parameters.copyFloats(at: index, elements: range, into: out) }
            }
        }
        let count = source.tensorNames.count
        var meter = Meter("writing")
        var done = 0
        try stoppable { isStopped in
            try exporter.write(to: output, replacing: replacing) { _ in
                done += 1
                return meter.show(done, of: count) && !isStopped()
            }
        }
        meter.end()
        standardOutput.write("\(output): \(count) tensors, \(replacing.count) of them trained\(round.map { ", as at round \($0)" } ?? "")")
    }

    private func fromSnapshot(_ path: String, _ archive: LedgerArchive) throws -> (ModelSource, Parameters?, RoundNumber?) {
        let data: Data
        do {
            data = try Data(contentsOf: URL(fileURLWithPath: path), options: .mappedIfSafe)
        } catch {
            throw ProcessFailure(.missingInput, "\(path): can't read the snapshot")
        }
        let source = try openModel(model)
        try archive.checkBase(source, threads: threads.count)
        let tensors = try source.trainedTensors(matching: archive.summary.spec.train, basis: archive.basis)
        return try data.withUnsafeBytes { bytes in
            let position = try Parameters.positionOfSnapshot(bytes)
            guard position.run == archive.summary.specDigest else {
                throw ProcessFailure(.badData, "\(path) is of the run \(position.run.short), the ledger of \(archive.summary.specDigest.short)")
            }
            return (source, try Parameters(tensors: tensors, snapshot: bytes), position.nextRound)
        }
    }
}
