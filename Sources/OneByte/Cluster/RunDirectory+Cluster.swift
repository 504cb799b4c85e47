import Coordinator
import Core
import Foundation
import Glibc
import LanguageModel
import Training

/// Files that a cluster keeps beside the coordinator's.
extension RunDirectory {
    /// The run directory that a path names: the directory itself, or the one in which the ledger of that path lies. For a ledger that lies alone
    /// under another name, nothing is beside it.
    package init(holding path: String) {
        var isDirectory: ObjCBool = false
        let isThere = FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory)
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        let parent = parts.dropLast().joined(separator: "/")
        let directory = RunDirectory(parts.count == 1 ? "." : parent.isEmpty ? "/" : parent)
        // A lone ledger may be called so too, and what lies beside it is somebody else's.
        let isRun = [directory.spec, directory.configuration, directory.lock].contains { FileManager.default.fileExists(atPath: $0) }
        guard isThere, !isDirectory.boolValue, isRun, parts.last == directory.ledger.split(separator: "/").last else {
            self.init(path)
            return
        }
        self = directory
    }

    var basis: String { "\(path)/basis" }
    /// The effective settings with their sources: a run file that gives the same run again.
    var configuration: String { "\(path)/run.toml" }
    /// SHA-256 of the files that train, steer and judge a local cluster's run, as `sha256sum` writes them.
    var dataDigests: String { "\(path)/data.sha256" }
    var report: String { "\(path)/report.json" }
    /// The report for people.
    var reportText: String { "\(path)/report.txt" }
    var logs: String { "\(path)/logs" }
    func log(of process: String) -> String { "\(logs)/\(process).log" }

    /// Makes the directory of the logs.
    func makeLogs() throws(ProcessFailure) {
        guard mkdir(logs, 0o700) == 0 || errno == EEXIST else {
            throw ProcessFailure(
                .cannotCreate, "can't make \(logs): \(String(cString: strerror(errno))); choose a directory that this user may write to")
        }
    }

    private var accounts: String { "\(path)/privacy" }

    /// The account of a private run's worker. The number of workers is part of its name, because it decides which examples the worker has.
    func account(ofWorker number: Int, of workers: Int) -> String { "\(accounts)/worker-\(number)-of-\(workers).json" }

    /// Makes the directory of the accounts.
    ///
    /// - Throws: `ProcessFailure` if there are accounts of another number of workers. With other shares, new accounts would forget what was spent.
    package func makeAccounts(ofWorkers workers: Int) throws(ProcessFailure) {
        guard mkdir(accounts, 0o700) == 0 || errno == EEXIST else {
            throw ProcessFailure(.cannotCreate, "can't make \(accounts): \(String(cString: strerror(errno)))")
        }
        let names = (try? FileManager.default.contentsOfDirectory(atPath: accounts)) ?? []
        let counts = Set(names.compactMap { $0.hasSuffix(".json") ? Int($0.dropLast(5).split(separator: "-").last ?? "") : nil })
        guard let other = counts.subtracting([workers]).first else { return }
        throw ProcessFailure(
            .configuration,
            "\(accounts) has the accounts of \(other) workers: with \(workers), each has other examples, and what was spent on them would be forgotten\ngive --workers \(other)"
        )
    }

    // MARK: The run's data

    /// Files of examples by their uses.
    static let dataKeys: [(use: DataUse.Use, key: SettingKey)] = [
        (.training, .trainFile), (.validation, .validationFile), (.evaluation, .evalFile),
    ]

    /// Reads the run's settings. The run's own parts of its data are found here, even if the directory was moved since.
    func readSettings() throws(SettingsError) -> [SettingKey: (SettingValue, SettingSource)] {
        var settings = try SettingsFile.read(configuration)
        guard case .text(let old)? = settings[.directory]?.0 else { return settings }
        for (_, key) in Self.dataKeys {
            guard case (.text(let file), let source)? = settings[key], let here = moved(file, from: old) else { continue }
            settings[key] = (.text(here), source)
        }
        return settings
    }

    /// Returns where one of the run's own files lies now that the directory is not `old` any more; nil for other files.
    func moved(_ file: String, from old: String) -> String? {
        guard old != path, file.hasPrefix(old + "/data/") else { return nil }
        let here = path + file.dropFirst(old.count)
        return FileManager.default.fileExists(atPath: here) ? here : nil
    }

    /// Keeps the SHA-256 of the run's data, so that a resumed run is not trained on others.
    ///
    /// - Parameter isPrivate: whether to leave the training data out. Whoever guesses a file could confirm the guess by its SHA-256.
    func keepDigests(of files: [DataUse.Use: String], isPrivate: Bool) throws {
        var text = ""
        for (use, key) in Self.dataKeys where !(isPrivate && use == .training) {
            guard let file = files[use] else { continue }
            let digest = try Self.digest(of: file)
            text += "# \(key.name)\n\(digest)  \(file)\n"
        }
        try write(text, to: dataDigests)
    }

    private static func digest(of file: String) throws(ModelError) -> Digest {
        let mapped = try MappedFile(path: file)
        return withExtendedLifetime(mapped) { Digest.sha256(mapped.bytes) }
    }

    /// Returns what is wrong with a file that is not the one with which the run began; nil if it is, or if nothing is known.
    func change(of file: String, _ key: SettingKey) -> String? {
        let lines = (try? String(contentsOfFile: dataDigests, encoding: .utf8))?.split(separator: "\n").map(String.init) ?? []
        guard let place = lines.firstIndex(of: "# \(key.name)"), lines.indices.contains(place + 1),
            let known = Digest(hex: String(lines[place + 1].prefix(2 * Digest.byteCount))), let digest = try? Self.digest(of: file), digest != known
        else { return nil }
        return "\(file) is not the file with which the run began: it was changed since, or is another of that name"
    }

    /// Writes a file whole or not at all.
    func write(_ text: String, to file: String) throws { try writeWhole(Data(text.utf8), to: file) }
}
