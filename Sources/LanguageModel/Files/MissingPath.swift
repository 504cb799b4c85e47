import Core
import Foundation

/// A path that does not exist: the first component that is missing, and what exists in its place.
package struct MissingPath {
    private static let namesShown = 5

    /// The last directory of the path that exists; empty for the working directory.
    private let directory: String
    /// The first component that is missing there.
    private let name: String
    /// Where that component leads if it is a symbolic link.
    private let target: String?

    /// Returns nil if the path exists.
    package init?(_ path: String) {
        var directory = path.hasPrefix("/") ? "/" : ""
        for part in path.utf8.split(separator: UInt8(ascii: "/")).map({ String(Substring($0)) }) {
            let next = directory.isEmpty ? part : directory == "/" ? "/\(part)" : "\(directory)/\(part)"
            guard FileManager.default.fileExists(atPath: next) else {
                (self.directory, name) = (directory, part)
                target = try? FileManager.default.destinationOfSymbolicLink(atPath: next)
                return
            }
            directory = next
        }
        return nil
    }

    /// The problem, such as "there is no tinny in models".
    package var problem: String {
        if let target { return "\(name) is a link to \(target), which does not exist" }
        return directory.isEmpty || directory == "." ? "there is no \(name) here" : "there is no \(name) in \(directory)"
    }

    /// The path that was most likely meant, up to the missing component; nil if nothing there resembles it.
    package var nearest: String? {
        target != nil
            ? nil
            : nearestWord(to: name, in: names).map { directory.isEmpty ? $0 : directory == "/" ? "/\($0)" : "\(directory)/\($0)" }
    }

    /// The remedy: "did you mean models/tiny?", or a list of what is there.
    package var remedy: String {
        if target != nil { return "obtain what it leads to, or name another path" }
        if let nearest { return "did you mean \(nearest)?" }
        let names = names
        guard !names.isEmpty else { return "the directory is empty" }
        let more = names.count > Self.namesShown ? ", … (\(names.count) in all)" : ""
        return "it holds \(names.prefix(Self.namesShown).joined(separator: ", "))\(more)"
    }

    private var names: [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: directory.isEmpty ? "." : directory)) ?? []).filter {
            name.hasPrefix(".") || !$0.hasPrefix(".")
        }.sorted()
    }
}
