import Core
import Foundation

/// The hub's local cache, in the layout that Hugging Face's own tools share
/// (https://huggingface.co/docs/hub/local-cache): `models--org--name/{blobs,refs,snapshots/<commit>}`.
///
/// Files in the cache are used as they are. Missing files are downloaded with curl, unless `HF_HUB_OFFLINE` is set. A file enters the cache
/// only when it is complete, and a revision only when all of its files are there. `HF_HUB_CACHE`, `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN` and
/// `HF_TOKEN_PATH` have the same meaning as for Hugging Face's tools.
package struct HubCache {
    package let root: String
    package let endpoint: String
    package let isOffline: Bool
    private let token: String?
    /// Where the token is from.
    private let tokenPlace: String
    /// The environment's proxies, for curl.
    private let proxies: [String: String]
    /// Seconds without a byte after which a download is given up.
    private let stallSeconds: Int

    package enum Limits {
        package static let listingBytesMax = 16 << 20
        package static let tokenBytesMax = 4096
        package static let connectSeconds = 20
        package static let stallSeconds = 60
        package static let retries = 3
    }

    /// Files other than the weights that are downloaded if the repository has them.
    private static let smallFiles = [
        "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
    ]
    private static let index = "model.safetensors.index.json"
    /// A LoRA adapter, which names the repository of its base model.
    private static let adapterFiles = ["adapter_config.json", "adapter_model.safetensors"]

    /// - Parameter stallSeconds: seconds without a byte after which a download is given up.
    package init(environment: [String: String], stallSeconds: Int = Limits.stallSeconds) {
        func value(_ name: String) -> String? {
            environment[name].flatMap { $0.isEmpty ? nil : $0 }
        }
        let cache = value("XDG_CACHE_HOME") ?? (value("HOME") ?? NSHomeDirectory()) + "/.cache"
        let home = value("HF_HOME") ?? cache + "/huggingface"
        root = value("HF_HUB_CACHE") ?? home + "/hub"
        endpoint = (value("HF_ENDPOINT") ?? "https://huggingface.co").replacing(/\/+$/, with: "")
        isOffline = ["1", "ON", "YES", "TRUE"].contains(value("HF_HUB_OFFLINE")?.uppercased())
        let tokenFile = value("HF_TOKEN_PATH") ?? home + "/token"
        let given = (value("HF_TOKEN") ?? (try? String(contentsOfFile: tokenFile, encoding: .utf8)))?
            .trimmingCharacters(in: .whitespacesAndNewlines)
        token = given.flatMap { $0.isEmpty ? nil : $0 }
        tokenPlace = value("HF_TOKEN") == nil ? tokenFile : "HF_TOKEN"
        proxies = environment.filter { HubFailure.proxyVariables.contains($0.key) && !$0.value.isEmpty }
        self.stallSeconds = stallSeconds
    }

    /// Returns the directory of a repository's files, downloading them if necessary.
    ///
    /// - Parameter log: receives a line for each download.
    package func directory(of reference: HubReference, log: (String) -> Void) throws(ModelError) -> String {
        let cached = cachedSnapshot(reference)
        // transformers downloads a model's tokenizer only on request, so a snapshot may lack it.
        if let cached {
            let isAdapter = try PEFTAdapter.isAt(cached)
            if isOffline || isAdapter || FileManager.default.fileExists(atPath: cached + "/tokenizer.json") { return cached }
        }
        guard !isOffline else {
            throw ModelError(
                .notFound, file: root + "/" + reference.directory, "\(reference.repository) at \(reference.revision) is not in the hub's cache",
                remedy: "HF_HUB_OFFLINE is set: unset it to download the model, or point HF_HUB_CACHE to the cache that has it")
        }
        do throws(ModelError) {
            // Workers that start at the same time wait for the one that downloads.
            let lock = try FileLock(path: "\(root)/.locks/\(reference.directory)/onebyte.lock") {
                log("waiting for another process, which is downloading \(reference.repository)")
            }
            defer { withExtendedLifetime(lock) {} }
            if cached == nil, let snapshot = cachedSnapshot(reference) { return snapshot }
            return try download(reference, log: log)
        } catch {
            guard let cached else { throw error }
            log("\(reference.repository): the cache's copy lacks tokenizer.json, which can't be had now, and is used as it is: \(error)")
            return cached
        }
    }

    /// Whether the cache has a repository.
    package func has(_ reference: HubReference) -> Bool { cachedSnapshot(reference) != nil }

    /// Returns the snapshot of a revision if it has everything that a model needs.
    private func cachedSnapshot(_ reference: HubReference) -> String? {
        let repository = root + "/" + reference.directory
        let named = try? String(contentsOfFile: "\(repository)/refs/\(reference.revision)", encoding: .utf8)
        let commit = named?.trimmingCharacters(in: .whitespacesAndNewlines) ?? reference.revision
        guard HubReference.isPlainName(commit) else { return nil }
        let snapshot = "\(repository)/snapshots/\(commit)"
        func has(_ file: String) -> Bool { FileManager.default.fileExists(atPath: "\(snapshot)/\(file)") }
        if Self.adapterFiles.allSatisfy(has) { return snapshot }
        guard has("config.json") else { return nil }
        if has("model.safetensors") { return snapshot }
        guard let shards = try? Self.shards(index: "\(snapshot)/\(Self.index)"), shards.allSatisfy(has) else { return nil }
        return snapshot
    }

    private static func shards(index: String) throws(ModelError) -> [String] {
        let map = try JSON.read(index, limit: 64 << 20)["weight_map"]?.members ?? []
        let names = Set(map.compactMap { $0.value.string }).sorted()
        guard !names.isEmpty, names.allSatisfy(HubReference.isPlainName) else {
            throw ModelError(.malformed, file: index, subject: "weight_map", "names no files, or files outside of the directory")
        }
        return names
    }

    /// Refuses a token that can't be written into a header as it is.
    private func checkToken() throws(ModelError) {
        let isPlain = token?.utf8.allSatisfy { byte in
            (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte) || "-._~+/=".utf8.contains(byte)
        }
        guard isPlain == false || token?.utf8.count ?? 0 > Limits.tokenBytesMax else { return }
        throw ModelError(
            .badRequest, file: tokenPlace, "is no access token: it holds characters that none has",
            remedy: "write the token alone, without quotes or spaces; or remove it, if the model is public")
    }

    private func download(_ reference: HubReference, log: (String) -> Void) throws(ModelError) -> String {
        try checkToken()
        let repository = root + "/" + reference.directory
        let work = "\(repository)/.onebyte-\(getpid())"
        try attempt(repository) {
            for part in ["blobs", "refs", "snapshots", ".onebyte-\(getpid())"] {
                try FileManager.default.createDirectory(atPath: "\(repository)/\(part)", withIntermediateDirectories: true)
            }
        }
        defer { try? FileManager.default.removeItem(atPath: work) }

        let listingURL = "\(endpoint)/api/models/\(reference.repository)/revision/\(reference.revision)"
        let listing = "\(work)/listing.json"
        _ = try get(listingURL, to: listing, reference, retries: 0)
        let json: JSON
        do throws(ModelError) { json = try JSON.read(listing, limit: Limits.listingBytesMax) } catch {
            throw HubFailure.noHub(reference, endpoint, error.problem)
        }
        let names = Set((json["siblings"]?.array ?? []).compactMap { $0["rfilename"]?.string })
        guard let commit = json["sha"]?.string, commit.utf8.count == 40, commit.allSatisfy(\.isHexDigit) else {
            throw HubFailure.noHub(reference, endpoint, "names no commit")
        }
        let isModel = names.contains("config.json") && (names.contains("model.safetensors") || names.contains(Self.index))
        guard isModel || Self.adapterFiles.allSatisfy({ names.contains($0) }) else {
            throw ModelError(
                .unsupported, file: reference.repository, "the repository has no config.json with safetensors weights",
                remedy: Self.remedy(withoutWeights: names, endpoint, reference))
        }

        func fetch(_ name: String) throws(ModelError) {
            let link = "\(repository)/snapshots/\(commit)/\(name)"
            if FileManager.default.fileExists(atPath: link) { return }
            log("downloading \(reference.repository)/\(name)")
            let file = "\(work)/\(name)"
            let url = "\(endpoint)/\(reference.repository)/resolve/\(commit)/\(name)"
            let tag = try get(url, to: file, reference, retries: Limits.retries)
            let blob = try blobName(tag: tag, file: file, url: url)
            try attempt(link) {
                let target = "\(repository)/blobs/\(blob)"
                // rename replaces a file that another process put there in the meantime; its bytes are the same.
                guard rename(file, target) == 0 else { throw CocoaError(.fileWriteUnknown) }
                try FileManager.default.createDirectory(atPath: "\(repository)/snapshots/\(commit)", withIntermediateDirectories: true)
                try? FileManager.default.removeItem(atPath: link)
                try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: "../../blobs/\(blob)")
            }
        }
        for name in Self.smallFiles where names.contains(name) { try fetch(name) }
        if !isModel {
            for name in Self.adapterFiles { try fetch(name) }
        } else if names.contains("model.safetensors") {
            try fetch("model.safetensors")
        } else {
            try fetch(Self.index)
            for name in try Self.shards(index: "\(repository)/snapshots/\(commit)/\(Self.index)") { try fetch(name) }
        }
        if commit != reference.revision {
            // Written last, so that an incomplete revision is never taken for a complete one.
            try attempt("\(repository)/refs/\(reference.revision)") {
                try Data(commit.utf8).write(to: URL(filePath: "\(repository)/refs/\(reference.revision)"), options: .atomic)
            }
        }
        return "\(repository)/snapshots/\(commit)"
    }

    /// Returns what to do about a repository that has other files than a model's.
    private static func remedy(withoutWeights names: Set<String>, _ endpoint: String, _ reference: HubReference) -> String {
        guard let file = names.filter({ $0.lowercased().hasSuffix(".gguf") }).min() else {
            return "name a repository of the model in Hugging Face's format; this one has \(names.count) files and none that can be read"
        }
        return "download one of its .gguf files, such as \(endpoint)/\(reference.repository)/resolve/\(reference.revision)/\(file), and give its path"
    }

    /// Returns the name of a blob: the hub's tag. For a large file the tag is its SHA-256, which is checked; for a small one it is Git's
    /// name.
    private func blobName(tag: String?, file: String, url: String) throws(ModelError) -> String {
        if let tag, tag.utf8.count == 40, tag.allSatisfy(\.isHexDigit) { return tag }
        let mapped = try MappedFile(path: file)
        let digest = withExtendedLifetime(mapped) { Digest.sha256(mapped.bytes) }.description
        if let tag, tag.utf8.count == 64, tag.allSatisfy(\.isHexDigit), tag.lowercased() != digest {
            throw ModelError(
                .malformed, file: url, "what came has the SHA-256 \(digest), but the hub says \(tag)", remedy: "try again: the download was damaged")
        }
        return digest
    }

    /// Downloads with curl, which handles proxies, certificates and redirects reliably.
    ///
    /// - Parameter retries: how often what may pass is tried again.
    /// - Returns: the file's tag, if the server sent one.
    private func get(_ url: String, to file: String, _ reference: HubReference, retries: Int) throws(ModelError) -> String? {
        let headers = file + ".headers"
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = [
            "curl", "--config", "-", "--location", "--max-redirs", "5", "--proto", "=https,http", "--silent", "--show-error",
            "--connect-timeout", "\(Limits.connectSeconds)", "--speed-limit", "1", "--speed-time", "\(stallSeconds)", "--retry", "\(retries)",
            "--dump-header", headers, "--output", file, "--write-out", "%{http_code}", "--url", url,
        ]
        process.environment = ProcessInfo.processInfo.environment.filter { !HubFailure.proxyVariables.contains($0.key) }.merging(proxies) { $1 }
        let input = Pipe()
        let output = Pipe()
        let errors = Pipe()
        process.standardInput = input
        process.standardOutput = output
        process.standardError = errors
        // The token goes through standard input, because every user of the machine can see arguments. It is written before curl reads, so
        // that curl's early end can't break the pipe; it fits into the pipe's buffer.
        let authorisation = token.map { "header = \"Authorization: Bearer \($0)\"\n" } ?? ""
        try? input.fileHandleForWriting.write(contentsOf: Data(authorisation.utf8))
        try? input.fileHandleForWriting.close()
        let failure = HubFailure(reference: reference, url: url, endpoint: endpoint, tokenPlace: token == nil ? nil : tokenPlace, proxies: proxies)
        do { try process.run() } catch { throw failure.withoutCurl(systemReason(of: error)) }
        let status = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        let message = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        let answer = (try? String(contentsOfFile: headers, encoding: .utf8)) ?? ""
        guard process.terminationStatus == 0 else {
            throw failure.ended(Int(process.terminationStatus), message: message, headers: answer, stallSeconds: stallSeconds)
        }
        guard status == "200" else { throw failure.answered(status, headers: answer) }
        return Self.tag(inHeaders: answer)
    }

    /// Returns the first linked tag, or else the first tag. Later tags come from servers that requests are redirected to.
    package static func tag(inHeaders headers: String) -> String? {
        var tags: [String: String] = [:]
        for line in headers.split(whereSeparator: \.isNewline) {
            let parts = line.split(separator: ":", maxSplits: 1)
            guard parts.count == 2 else { continue }
            let value = parts[1].trimmingCharacters(in: .whitespaces).replacing(/^W\//, with: "").replacing("\"", with: "")
            tags[parts[0].lowercased()] = tags[parts[0].lowercased()] ?? value
        }
        return tags["x-linked-etag"] ?? tags["etag"]
    }

    private func attempt(_ path: String, _ body: () throws -> Void) throws(ModelError) {
        do { try body() } catch {
            throw ModelError(
                .inputOutput, file: path, "cannot be written: \(systemReason(of: error))", remedy: "point HF_HUB_CACHE to a writable directory")
        }
    }
}

/// A lock that one process holds at a time, until this object or the process ends.
private final class FileLock {
    private let descriptor: Int32

    /// - Parameter onWaiting: called once if another process holds the lock.
    init(path: String, onWaiting: () -> Void) throws(ModelError) {
        try? FileManager.default.createDirectory(
            atPath: URL(filePath: path).deletingLastPathComponent().path, withIntermediateDirectories: true)
        descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else {
            throw ModelError(
                .inputOutput, file: path, "cannot be created: \(errnoText())", remedy: "point HF_HUB_CACHE to a writable directory")
        }
        guard flock(descriptor, LOCK_EX | LOCK_NB) != 0 else { return }
        if errno == EWOULDBLOCK { onWaiting() }
        while flock(descriptor, LOCK_EX) != 0 {
            guard errno == EINTR else { throw ModelError(.inputOutput, file: path, "cannot be locked: \(errnoText())") }
        }
    }

    deinit { close(descriptor) }
}
