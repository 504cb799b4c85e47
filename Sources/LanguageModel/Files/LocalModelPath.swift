import Core
import Foundation

/// Recognises model paths that do not exist. `models/tiny` may be a mistyped path or a repository of the hub. What looks like a path gets
/// an error about the path at once, instead of a request to the hub.
enum LocalModelPath {
    private static let fileEndings = [".gguf", ".safetensors", ".bin", ".pt", ".pth", ".json", ".ggml"]

    /// Returns what is wrong with a path that does not exist; nil if the reference may be a repository's name.
    ///
    /// - Parameter isCached: whether the hub's cache has a repository of this name.
    static func problem(_ reference: String, isCached: Bool) -> ModelError? {
        if let dangling = danglingLink(reference) { return dangling }
        // Only the hub has revisions, so a revision means a repository.
        guard !isCached, !reference.utf8.contains(UInt8(ascii: "@")) || isPath(reference) else { return nil }
        let parts = reference.split(separator: "/", omittingEmptySubsequences: true).map(String.init)
        let isBelow = parts.count > 1 && !reference.hasPrefix("/") && FileManager.default.fileExists(atPath: parts[0])
        guard isPath(reference) || isBelow else { return nil }
        if reference.hasPrefix("~") {
            return ModelError(
                .notFound, file: reference, "there is no such file or directory",
                remedy: "only a shell knows what ~ is; write the home directory's path")
        }
        guard let missing = MissingPath(reference) else { return nil }
        let hub = isBelow && HubReference(reference) != nil ? "; the hub's repository of that name is \(reference)@main" : ""
        return ModelError(.notFound, file: reference, missing.problem, remedy: missing.remedy + hub)
    }

    /// Whether text has the form of a path and of nothing else.
    private static func isPath(_ text: String) -> Bool {
        ["/", "./", "../", "~"].contains { text.hasPrefix($0) } || fileEndings.contains { text.lowercased().hasSuffix($0) } || text == "."
            || text == ".."
            || text.utf8.contains(UInt8(ascii: "\\"))
    }

    private static func danglingLink(_ path: String) -> ModelError? {
        guard let target = try? FileManager.default.destinationOfSymbolicLink(atPath: path) else { return nil }
        return ModelError(
            .notFound, file: path, "is a link to \(target), which is not there", remedy: "restore what it leads to, or give the model's own path")
    }
}
