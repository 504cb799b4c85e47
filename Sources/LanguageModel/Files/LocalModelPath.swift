import Core
import Foundation

/// A model's path that leads nowhere. `models/tiny` may be a mistyped path or a repository of the hub: what stands for a path is told as one,
/// at once, in place of asking the hub for what only looks like its name.
enum LocalModelPath {
    private static let fileEndings = [".gguf", ".safetensors", ".bin", ".pt", ".pth", ".json", ".ggml"]
    private static let namesShown = 5

    /// What is wrong with a path that is not there; nil where the reference may well be a repository's name.
    ///
    /// - Parameter isCached: the hub's cache has a repository of this name.
    static func problem(_ reference: String, isCached: Bool) -> ModelError? {
        if let dangling = danglingLink(reference) { return dangling }
        // A revision is the hub's alone, and so says which is meant.
        guard !isCached, !reference.utf8.contains(UInt8(ascii: "@")) || isPath(reference) else { return nil }
        let parts = reference.split(separator: "/", omittingEmptySubsequences: true).map(String.init)
        let isBelow = parts.count > 1 && !reference.hasPrefix("/") && FileManager.default.fileExists(atPath: parts[0])
        guard isPath(reference) || isBelow else { return nil }
        if reference.hasPrefix("~") {
            return ModelError(
                .notFound, file: reference, "there is no such file or directory", remedy: "only a shell knows what ~ is; write the home directory's path")
        }
        return ModelError(.notFound, file: reference, whatIsThere(reference), remedy: remedy(reference, isBelow: isBelow && HubReference(reference) != nil))
    }

    /// Shaped like a path, and like nothing else.
    private static func isPath(_ text: String) -> Bool {
        ["/", "./", "../", "~"].contains { text.hasPrefix($0) } || fileEndings.contains { text.lowercased().hasSuffix($0) } || text == "." || text == ".."
            || text.utf8.contains(UInt8(ascii: "\\"))
    }

    private static func danglingLink(_ path: String) -> ModelError? {
        guard let target = try? FileManager.default.destinationOfSymbolicLink(atPath: path) else { return nil }
        return ModelError(.notFound, file: path, "is a link to \(target), which is not there", remedy: "restore what it leads to, or give the model's own path")
    }

    /// The first part of the path that is not there, beside what is.
    private static func whatIsThere(_ path: String) -> String {
        let (directory, name) = firstMissing(path)
        let isHere = directory.isEmpty || directory == "."
        return isHere ? "there is no \(name) here" : "there is no \(name) in \(directory)"
    }

    private static func remedy(_ path: String, isBelow: Bool) -> String {
        let (directory, name) = firstMissing(path)
        let names = ((try? FileManager.default.contentsOfDirectory(atPath: directory.isEmpty ? "." : directory)) ?? []).filter { !$0.hasPrefix(".") }.sorted()
        let hub = isBelow ? "; for the hub's repository of that name write \(path)@main" : ""
        if let near = nearestWord(to: name, in: names) {
            let whole = directory.isEmpty ? near : directory == "/" ? "/\(near)" : "\(directory)/\(near)"
            return "did you mean \(whole)?\(hub)"
        }
        guard !names.isEmpty else { return "the directory is empty\(hub)" }
        let more = names.count > namesShown ? ", … (\(names.count) in all)" : ""
        return "it holds \(names.prefix(namesShown).joined(separator: ", "))\(more)\(hub)"
    }

    /// Where a path leaves what there is: the last directory that is there, and the name that is not in it.
    private static func firstMissing(_ path: String) -> (directory: String, name: String) {
        var directory = path.hasPrefix("/") ? "/" : ""
        for part in path.split(separator: "/").map(String.init) {
            let next = directory.isEmpty ? part : directory == "/" ? "/\(part)" : "\(directory)/\(part)"
            guard FileManager.default.fileExists(atPath: next) else { return (directory, part) }
            directory = next
        }
        return (directory, path)
    }
}
