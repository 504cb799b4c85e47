import Core
import Foundation
import LanguageModel
import OneByte
import Training

/// The parsers of untrusted bytes: from the network, ledgers, model directories, run files, caches and data files.
///
/// A parser may refuse its input with any error. It must not trap, read outside its buffers, or run without end. What it accepts of a ledger, a basis,
/// a spec or a message must encode to the same bytes again, or, if one value has several encodings, to bytes that decode to the same value.
package enum FuzzTarget: String, CaseIterable, Sendable {
    case message, ledger, record, snapshot, basis, spec, settings, gguf, safetensors, config, adapter, tokenizer, template, jsonl, csv, prefix

    /// Hands bytes to the parser, and uses what comes out as a run would.
    ///
    /// - Parameter directory: a directory for the input of parsers that read files. Later calls may use it again.
    package func run(_ bytes: [UInt8], directory: String) {
        do {
            switch self {
            case .message: try Self.readMessage(bytes)
            case .ledger: try Self.readLedger(bytes)
            case .record:
                guard let kind = bytes.first else { return }
                let record = try LedgerRecord(kind: kind, payload: Array(bytes.dropFirst()))
                precondition([record.kind.rawValue] + record.payload() == bytes, "a \(record.kind) record has a second encoding")
            case .snapshot: try Self.readSnapshot(bytes)
            case .basis:
                let basis = try RunBasis(decoding: bytes)
                precondition(basis.encoded() == bytes, "a basis has a second encoding")
            case .spec:
                let again = try RunSpec(canonicalBytes: bytes).canonicalBytes()
                precondition(again == bytes, "a spec has a second encoding")
            case .settings: try Self.readSettings(at: try Self.write(bytes, "\(directory)/run.toml"))
            case .gguf: try Self.readModel(at: try Self.write(bytes, "\(directory)/model.gguf"))
            case .safetensors:
                try Self.write([UInt8](Self.configuration.utf8), "\(directory)/config.json")
                try Self.write(bytes, "\(directory)/model.safetensors")
                try Self.readModel(at: directory)
            case .config:
                try Self.write(bytes, "\(directory)/config.json")
                try Self.write(Self.emptySafetensors, "\(directory)/model.safetensors")
                try Self.readModel(at: directory)
            case .adapter: try Self.readAdapter(bytes, directory)
            case .tokenizer:
                try Self.write([UInt8](Self.configuration.utf8), "\(directory)/config.json")
                try Self.write(Self.emptySafetensors, "\(directory)/model.safetensors")
                try Self.write(bytes, "\(directory)/tokenizer.json")
                let tokenizer = try ModelSource.open(directory).tokenizer
                _ = tokenizer.decode(tokenizer.encode("It's 12 naïve  words.\n"))
            case .template: try Self.render(String(decoding: bytes, as: UTF8.self))
            case .jsonl: _ = try DataFile.read(try Self.write(bytes, "\(directory)/data.jsonl"))
            case .csv: _ = try DataFile.read(try Self.write(bytes, "\(directory)/data.csv"))
            case .prefix: try FuzzedPrefix.read(bytes, directory: "\(directory)/caches")
            }
        } catch {
            // An error's text is made from the input too.
            _ = "\(error)"
        }
    }

    private static func readMessage(_ bytes: [UInt8]) throws {
        if RelayFrame.isRelayFrame(bytes) {
            precondition(!RelayFrame.holds(bytes) { _ in false }, "a relay's frame holds what nothing is")
            let frame = try RelayFrame(decoding: bytes)
            precondition(frame.encoded() == bytes, "a relay's frame has a second encoding")
            return
        }
        let message = try Message(decoding: bytes)
        let frame = message.encoded()
        switch message {
        // JSON can be spelt in many ways, and an opening that continues a round in two.
        case .hello, .welcome, .refuse, .goodbye, .finished, .commit:
            precondition((try? Message(decoding: frame)) == message, "a \(message.kind) message does not decode to what was encoded")
        // A NaN has many encodings, and does not equal itself, so frames are compared.
        case .evaluation, .status:
            precondition((try? Message(decoding: frame))?.encoded() == frame, "a \(message.kind) message does not decode to what was encoded")
        default: precondition(frame == bytes, "a \(message.kind) message has a second encoding")
        }
    }

    private static func readLedger(_ bytes: [UInt8]) throws {
        var decoder = LedgerDecoder()
        decoder.push(bytes)
        guard let first = try decoder.next() else { return }
        var verifier = try LedgerVerifier(first: first, checker: NobodySigns())
        var history = EffectiveHistory()
        while let entry = try decoder.next() {
            try verifier.fold(entry)
            _ = try history.fold(entry.record)
        }
    }

    /// Adds the checksum, which a fuzzer can't guess, and reads the snapshot.
    private static func readSnapshot(_ body: [UInt8]) throws {
        let bytes = body + Digest.sha256(body).bytes
        let tensor = TrainedTensor(name: "w", index: 0, shape: .matrix(rows: 2, columns: 3))
        try bytes.withUnsafeBytes { bytes in
            _ = try Parameters.positionOfSnapshot(bytes)
            _ = try Parameters(tensors: [tensor], snapshot: bytes).digest()
        }
    }

    /// Reads a run file. Whatever it leaves of a valid run has a spec that others can read, and is a run file of the same meaning.
    private static func readSettings(at path: String) throws {
        var settings = try Settings(file: path, flags: [:])
        _ = (try settings.prefixCache(), try settings.precision(), settings.idle())
        try write([UInt8](settings.annotated.utf8), path)
        var again = try required(Settings(file: path, flags: [:]), "the settings are no run file")
        // The data are another parser's.
        for key in [SettingKey.trainFile, .evalFile] {
            settings.remove(key)
            again.remove(key)
        }
        let spec = try settings.runSpec(task: settings.resolveTask(), basisDigest: nil)
        precondition((try? RunSpec(canonicalBytes: spec.canonicalBytes())) == spec, "a spec does not decode to what was encoded")
        precondition((try? again.runSpec(task: again.resolveTask(), basisDigest: nil)) == spec, "the settings have another meaning as a run file")
    }

    private static func required<Value>(_ value: @autoclosure () throws -> Value, _ problem: String) throws -> Value {
        do { return try value() } catch { preconditionFailure("\(problem): \(error)") }
    }

    /// Reads an adapter of a base model that is good: its adapter_config.json and, behind a NUL byte, its tensors.
    private static func readAdapter(_ bytes: [UInt8], _ directory: String) throws {
        let (base, adapter) = ("\(directory)/adapter/base", "\(directory)/adapter")
        if !FileManager.default.fileExists(atPath: base) { try FuzzedModel.write(to: base) }
        let parts = bytes.split(separator: 0, maxSplits: 1, omittingEmptySubsequences: false)
        try Self.write(Array(parts[0]), "\(adapter)/adapter_config.json")
        try Self.write(parts.count > 1 ? Array(parts[1]) : FuzzedModel.adapter, "\(adapter)/adapter_model.safetensors")
        try Self.readModel(at: adapter)
    }

    private static func readModel(at path: String) throws {
        // No name in a file makes a fuzzer download anything.
        let source = try ModelSource.open(path, environment: ["HF_HUB_OFFLINE": "1", "HF_HOME": path])
        _ = try source.tokenizer
        let tensors = try source.trainedTensors(matching: ["all"], basis: nil)
        // Enough to reach every tensor's bytes; a file of some kilobytes can't hold more.
        guard tensors.reduce(0, { $0 + $1.shape.count }) < 1 << 20 else { return }
        _ = try source.makeParameters(tensors)
    }

    private static func render(_ source: String) throws {
        let template = try ChatTemplate(source: source, specialTokens: ["bos_token": "<s>", "eos_token": "</s>"], file: "template")
        let messages = [ChatMessage(role: "user", content: "Hello {{ x }}"), ChatMessage(role: "assistant", content: "Good day.")]
        _ = try template.render(messages)
        _ = try template.render([messages[0]], addingReplyStart: true)
    }

    @discardableResult
    private static func write(_ bytes: [UInt8], _ path: String) throws -> String {
        // The file replaces an older one, because a model that is still open may have mapped that one.
        try Data(bytes).write(to: URL(fileURLWithPath: path), options: .atomic)
        return path
    }

    private static let emptySafetensors: [UInt8] = [2, 0, 0, 0, 0, 0, 0, 0, 0x7b, 0x7d]

    private static let configuration = """
        {"model_type": "llama", "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, \
        "num_key_value_heads": 1, "vocab_size": 16, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 1e4, \
        "tie_word_embeddings": true}
        """

    private struct NobodySigns: SignatureChecker {
        func isValid(_ signature: Signature, of message: [UInt8], by key: SignerKey) -> Bool { false }
    }
}
