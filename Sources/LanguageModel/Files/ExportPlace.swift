import Core
import Glibc

/// The destination of an export. A new directory appears whole or not at all. An existing one (which may be a mount point or somebody's
/// working directory) stays the same directory and gets its files once all of them are written. Its config.json is removed first and
/// written last, so that what a crash leaves in between is not taken for a model.
struct ExportPlace {
    /// The path as the user gave it.
    private let path: String
    private let target: String
    private let isThere: Bool
    /// Directory in which the files are written first.
    let partial: String

    private static let partialPrefix = ".onebyte-partial-"
    /// Files that make a directory a model or an adapter.
    private static let configurations = ["config.json", "adapter_config.json"]

    /// - Parameters:
    ///   - overwrites: whether files of an earlier export may be replaced.
    ///   - source: the model's own directories and files, which are never written into.
    ///   - isOfExport: whether an export writes files of this name.
    init(_ path: String, overwrites: Bool, source: Set<String>, isOfExport: (String) -> Bool) throws(ModelError) {
        self.path = path
        var status = stat()
        isThere = stat(path, &status) == 0
        guard isThere else {
            let parts = Self.parent(of: path)
            try Self.makeDirectories(parts.parent, for: path)
            target = path
            partial = "\(parts.parent)/.\(parts.name).partial-\(getpid())"
            try Self.make(partial, for: path)
            return
        }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            throw ModelError(.badRequest, file: path, "is a file", remedy: "choose another directory")
        }
        // Every new volume has this directory for lost files.
        let contents = try Self.contents(of: path).filter { $0 != "lost+found" && !$0.hasPrefix(Self.partialPrefix) }
        if let own = contents.filter({ !isOfExport($0) }).min() {
            throw overwrites
                ? ModelError(
                    .badRequest, file: path, "contains \(own), which is not part of an export, and is not replaced",
                    remedy: "choose another directory")
                : ModelError(.badRequest, file: path, "already exists and contains \(own)", remedy: "choose another directory")
        }
        guard contents.isEmpty || overwrites else {
            throw ModelError(.occupied, file: path, "already exists and is not empty", remedy: "choose another directory")
        }
        guard let own = Self.resolved(path), !source.contains(where: { Self.resolved($0) == own }) else {
            throw ModelError(.badRequest, file: path, "is the model itself or its base, which its ledgers need", remedy: "choose another directory")
        }
        target = own
        partial = "\(target)/\(Self.partialPrefix)\(getpid())"
        try Self.make(partial, for: path)
    }

    /// Moves the files to their final place.
    func finish(isOfExport: (String) -> Bool) throws(ModelError) {
        guard isThere else {
            guard rename(partial, target) == 0 else { throw failure("cannot be put in place") }
            Self.sync(Self.parent(of: target).parent)
            return
        }
        let files = try Self.contents(of: partial)
        for old in Self.configurations { unlink("\(target)/\(old)") }
        for old in try Self.contents(of: target) where isOfExport(old) && !files.contains(old) {
            guard unlink("\(target)/\(old)") == 0 || errno == ENOENT else { throw failure("holds \(old), which cannot be removed") }
        }
        for name in files.sorted(by: { (Self.configurations.contains($0) ? 1 : 0, $0) < (Self.configurations.contains($1) ? 1 : 0, $1) }) {
            guard rename("\(partial)/\(name)", "\(target)/\(name)") == 0 else { throw failure("cannot be given its \(name)") }
        }
        rmdir(partial)
        Self.sync(target)
    }

    /// Removes everything that was written.
    func abandon() {
        for name in (try? Self.contents(of: partial)) ?? [] { unlink("\(partial)/\(name)") }
        rmdir(partial)
    }

    private func failure(_ problem: String) -> ModelError { ModelError(.inputOutput, file: path, "\(problem): \(errnoText())") }

    // MARK: The system's calls

    /// Splits a path into its directory and last component. A trailing slash is ignored.
    private static func parent(of path: String) -> (parent: String, name: String) {
        var bytes = Array(path.utf8)[...]
        while bytes.count > 1, bytes.last == UInt8(ascii: "/") { bytes.removeLast() }
        guard let slash = bytes.lastIndex(of: UInt8(ascii: "/")) else { return (".", String(decoding: bytes, as: UTF8.self)) }
        let parent = slash == bytes.startIndex ? "/" : String(decoding: bytes[..<slash], as: UTF8.self)
        return (parent, String(decoding: bytes[(slash + 1)...], as: UTF8.self))
    }

    private static func makeDirectories(_ directory: String, for path: String) throws(ModelError) {
        var status = stat()
        if stat(directory, &status) == 0 { return }
        let above = parent(of: directory).parent
        if above != directory { try makeDirectories(above, for: path) }
        guard mkdir(directory, 0o755) == 0 || errno == EEXIST else {
            throw ModelError(.inputOutput, file: path, "cannot be created, since \(directory) cannot: \(errnoText())")
        }
    }

    private static func make(_ directory: String, for path: String) throws(ModelError) {
        guard mkdir(directory, 0o755) != 0, errno != EEXIST else { return }
        throw ModelError(.inputOutput, file: path, "cannot be created: \(errnoText())", remedy: "choose a directory that this user may write to")
    }

    private static func contents(of directory: String) throws(ModelError) -> [String] {
        guard let stream = opendir(directory) else { throw ModelError(.inputOutput, file: directory, "cannot be read: \(errnoText())") }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) } }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }

    /// Returns the path without symbolic links; nil if there is nothing.
    static func resolved(_ path: String) -> String? {
        guard let text = realpath(path, nil) else { return nil }
        defer { free(text) }
        return String(cString: text)
    }

    private static func sync(_ directory: String) {
        let descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { return }
        fsync(descriptor)
        close(descriptor)
    }
}
