import Foundation
import LanguageModel
import Testing
import Training

/// Files that are not what their names say, and paths that do not exist.
@Suite struct ForeignFilesTests {
    private static let pointer =
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"

    @Test(
        "A Git LFS pointer in place of weights, a tokenizer, a configuration or a GGUF file is recognised",
        arguments: [
            "model.safetensors", "tokenizer.json", "config.json", "model.gguf",
        ])
    func gitLFS(_ name: String) throws {
        try withTemporaryDirectory { directory in
            let model = directory + "/model"
            try FileManager.default.copyItem(at: try fixture("tiny-llama"), to: URL(filePath: model))
            let file = URL(filePath: model + "/" + name)
            try? FileManager.default.removeItem(at: file)
            try Data(Self.pointer.utf8).write(to: file)
            let error = #expect(throws: ModelError.self) { _ = try ModelSource.open(name.hasSuffix(".gguf") ? file.path : model).tokenizer }
            #expect(
                error?.problem.contains("Git LFS") == true && error?.remedy?.contains("lfs pull --include ") == true,
                "\(error.map { "\($0)" } ?? "none")")
            #expect(error?.file.hasSuffix(name) == true)
        }
    }

    @Test("A header length that looks like another format's magic number is read as a length", arguments: [0x8B1F, 0xFEFF, 0x0280])
    func lengthsThatLookLikeMarks(_ length: Int) throws {
        try withTemporaryDirectory { directory in
            let header = #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#
            let bytes =
                withUnsafeBytes(of: UInt64(length).littleEndian) { Array($0) } + Array(header.utf8)
                + [UInt8](repeating: 0x20, count: length - header.utf8.count) + [0, 0, 0, 0]
            let path = directory + "/model.safetensors"
            try Data(bytes).write(to: URL(filePath: path))
            #expect(try SafetensorsFile(path: path).tensors.count == 1)
        }
    }

    @Test func oneFileOfAModelIsNotTheModel() throws {
        let path = try fixture("tiny-llama").path + "/model.safetensors"
        let error = #expect(throws: ModelError.self) { try ModelSource.open(path) }
        #expect(error?.remedy?.contains("directory") == true, "\(error.map { "\($0)" } ?? "")")
    }

    @Test("A configuration with a byte order mark is read")
    func byteOrderMark() throws {
        try withTemporaryDirectory { directory in
            let model = directory + "/model"
            try FileManager.default.copyItem(at: try fixture("tiny-llama"), to: URL(filePath: model))
            let file = URL(filePath: model + "/config.json")
            try (Data([0xEF, 0xBB, 0xBF]) + Data(contentsOf: file)).write(to: file)
            #expect(throws: Never.self) { try ModelSource.open(model) }
        }
    }

    /// Opens a reference while no server answers at the endpoint, so that a request shows that a path was taken for a repository.
    private func open(_ reference: String) -> ModelError? {
        let environment = [
            "HOME": "/nonexistent", "HF_ENDPOINT": "http://127.0.0.1:9",
            "HF_HUB_CACHE": FileManager.default.temporaryDirectory.path + "/onebyte-no-hub",
        ]
        do throws(ModelError) { _ = try ModelSource.open(reference, environment: environment) } catch { return error }
        return nil
    }

    @Test("A mistyped path is reported as a path, with what is there, and the hub is not asked")
    func mistypedPaths() throws {
        try withTemporaryDirectory { directory in
            let name = "models-\(UUID().uuidString)"
            let here = FileManager.default.currentDirectoryPath + "/" + name
            try FileManager.default.createDirectory(atPath: here + "/tiny-llama", withIntermediateDirectories: true)
            defer { try? FileManager.default.removeItem(atPath: here) }
            try FileManager.default.createSymbolicLink(atPath: directory + "/link", withDestinationPath: directory + "/gone")
            for (reference, problem, remedy) in [
                ("\(name)/tiny-lama", "there is no tiny-lama in \(name)", "did you mean \(name)/tiny-llama?"),
                ("nowhere/model.gguf", "there is no nowhere here", ""),
                ("\(directory)/model", "there is no model in \(directory)", "it holds link"), ("./x", "there is no", ""),
                ("~/model", "", "home directory"),
                ("\(directory)/link", "is a link to \(directory)/gone, which is not there", ""), ("C:\\models\\tiny", "there is no", ""),
            ] {
                let error = try #require(open(reference), "\(reference)")
                #expect(error.code == .notFound && (problem.isEmpty || error.problem.contains(problem)), "\(reference): \(error)")
                #expect(remedy.isEmpty || error.remedy?.contains(remedy) == true, "\(reference): \(error)")
            }
            #expect(open("\(name)/tiny-lama")?.remedy?.contains("\(name)/tiny-lama@main") == true)
            // A name that no existing directory contradicts is a repository, and so is a name with a revision.
            for reference in ["nobody-\(UUID().uuidString.prefix(8))/nothing", "\(name)/tiny-lama@main"] {
                #expect(open(reference)?.code == .network, "\(reference)")
            }
        }
    }

    @Test("Data in another format or encoding are refused with a remedy; byte order marks within joined files are ignored")
    func data() throws {
        try withTemporaryDirectory { directory in
            func read(_ bytes: [UInt8], _ name: String = "data.jsonl") throws -> [DataRecord] {
                let path = directory + "/" + name
                try Data(bytes).write(to: URL(filePath: path))
                return try DataFile.read(path)
            }
            let line = #"{"text":"a"}"# + "\n"
            for (bytes, word) in [
                ([0x1F, 0x8B, 8, 0], "gzip -dc"), ([0xFF, 0xFE] + line.utf16.flatMap { [UInt8($0 & 255), UInt8($0 >> 8)] }, "iconv"),
                (Array(Self.pointer.utf8), "lfs pull --include "),
            ] as [([UInt8], String)] {
                let error = #expect(throws: DataError.self) { try read(bytes) }
                #expect(error?.description.contains(word) == true, "\(error.map { "\($0)" } ?? "")")
            }
            let mark: [UInt8] = [0xEF, 0xBB, 0xBF]
            #expect(try read(mark + Array(line.utf8) + mark + Array(line.utf8)).count == 2)
            let lines = directory + "/lines.txt"
            try Data(mark + Array("one\n".utf8) + mark + Array("two\n".utf8)).write(to: URL(filePath: lines))
            #expect(try DataFile.readTexts(lines) == ["one", "two"])
        }
    }

    @Test("A template's braces are recognised even if an accent follows them")
    func bracesAndAccents() throws {
        #expect(throws: Never.self) { try Template("{text}\u{301} {{\u{308}}}") }
        #expect(throws: DataError.self) { try Template("no hole }\u{301}") }
    }

    @Test("An export into an empty directory fills it and does not replace it")
    func exportIntoAnEmptyDirectory() throws {
        let source = try ModelSource.open(fixture("tiny-llama").path)
        try withTemporaryDirectory { directory in
            let target = directory + "/out"
            try FileManager.default.createDirectory(atPath: target + "/lost+found", withIntermediateDirectories: true)
            func number() throws -> Int { try #require(FileManager.default.attributesOfItem(atPath: target)[.systemFileNumber] as? Int) }
            let before = try number()
            try ModelExporter(source: source).write(to: target)
            #expect(try number() == before)
            #expect(throws: Never.self) { try ModelSource.open(target) }
            // A second export replaces files, but still not the directory.
            var again = ModelExporter(source: source)
            let refused = #expect(throws: ModelError.self) { try again.write(to: target) }
            #expect(refused?.code == .occupied)
            again.overwrites = true
            again.dataType = .f16
            try again.write(to: target)
            #expect(try number() == before && ModelSource.open(target).dataType(of: "model.embed_tokens.weight") == .f16)
            #expect(try FileManager.default.contentsOfDirectory(atPath: target).allSatisfy { !$0.hasPrefix(".") })
            // An export that is stopped keeps the existing files and leaves none of its own.
            again.dataType = .bf16
            #expect(throws: ModelError.self) { try again.write(to: target) { _ in false } }
            #expect(try ModelSource.open(target).dataType(of: "model.embed_tokens.weight") == .f16)
            #expect(try FileManager.default.contentsOfDirectory(atPath: target).allSatisfy { !$0.hasPrefix(".") })
        }
    }

    @Test("A system error is reported in the system's words, never by domain and number")
    func systemReasons() {
        let errors: [any Error] = [
            CocoaError(.fileWriteOutOfSpace), CocoaError(.fileNoSuchFile), CocoaError(.featureUnsupported), POSIXError(.EACCES),
            NSError(domain: NSPOSIXErrorDomain, code: Int(ENOSPC)), NSError(domain: "Other", code: 3),
            CocoaError(.fileWriteUnknown, userInfo: [NSUnderlyingErrorKey: NSError(domain: NSPOSIXErrorDomain, code: Int(EBUSY))]),
        ]
        for error in errors { #expect(!systemReason(of: error).contains("Domain") && !systemReason(of: error).isEmpty, "\(error)") }
        #expect(systemReason(of: errors[0]) == "No space left on device")
        #expect(systemReason(of: errors[6]) == "Device or resource busy")
    }
}
