import Foundation
import Testing

/// Tests of the links in the repository's Markdown files.
@Suite struct DocumentTests {
    /// All Markdown files, as paths relative to the root.
    static let pages: [String] = {
        let root = Binary.packageRoot
        let folders = [".", "docs", ".github", "Benchmarks", "deploy"]
        var found: Set<String> = []
        for folder in folders {
            let start = root.appending(path: folder).path
            let names = folder == "." ? (try? FileManager.default.contentsOfDirectory(atPath: start)) : FileManager.default.subpaths(atPath: start)
            for name in names ?? [] where name.hasSuffix(".md") { found.insert(folder == "." ? name : "\(folder)/\(name)") }
        }
        return found.sorted()
    }()

    @Test func thereArePages() {
        #expect(Self.pages.contains("README.md"))
        #expect(Self.pages.contains("docs/reference/architecture.md"))
    }

    @Test(arguments: pages)
    func everyLinkAndAnchorResolves(_ page: String) throws {
        let file = Binary.packageRoot.appending(path: page)
        let text = try String(contentsOf: file, encoding: .utf8)
        for target in Self.links(in: text) where !target.contains("://") && !target.hasPrefix("mailto:") {
            let parts = target.split(separator: "#", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            let linked = parts[0].isEmpty ? file : file.deletingLastPathComponent().appending(path: parts[0]).standardizedFileURL
            guard FileManager.default.fileExists(atPath: linked.path) else {
                Issue.record("\(page): nothing is at \(target)")
                continue
            }
            guard parts.count == 2, linked.pathExtension == "md" else { continue }
            let anchors = Self.anchors(in: try String(contentsOf: linked, encoding: .utf8))
            #expect(anchors.contains(parts[1]), "\(page): no heading for \(target)")
        }
    }

    @Test func linksAndAnchorsAreRead() {
        let text = "# A page: `code` & more\n[a](b.md#c) ![p](d.svg)\n```sh\n# no heading [x](y.md)\n```\n## A page: `code` & more\n"
        #expect(Self.links(in: text) == ["b.md#c", "d.svg"])
        #expect(Self.anchors(in: text) == ["a-page-code--more", "a-page-code--more-1"])
    }

    /// Returns the lines outside of fenced blocks.
    private static func prose(_ text: String) -> [Substring] {
        var fenced = false
        return text.split(separator: "\n", omittingEmptySubsequences: false).filter { line in
            if line.hasPrefix("```") {
                fenced.toggle()
                return false
            }
            return !fenced
        }
    }

    /// Returns the targets of `[text](target)` and `![text](target)`.
    static func links(in text: String) -> [String] {
        let pattern = /\]\(([^()\s]+)\)/
        return prose(text).flatMap { line in line.matches(of: pattern).map { String($0.1) } }
    }

    /// Returns the anchors of a page's headings as GitHub makes them: lower case; letters, digits, hyphens and underscores kept; spaces as
    /// hyphens; a number for a repetition.
    static func anchors(in text: String) -> [String] {
        var counts: [String: Int] = [:]
        return prose(text).compactMap { line in
            let marks = line.prefix { $0 == "#" }
            guard (1...6).contains(marks.count), line.dropFirst(marks.count).first == " " else { return nil }
            let title = line.dropFirst(marks.count + 1).lowercased()
            let name = title.filter { $0.isLetter || $0.isNumber || $0 == "-" || $0 == "_" || $0 == " " }.replacing(" ", with: "-")
            let count = counts[name, default: 0]
            counts[name] = count + 1
            return count == 0 ? name : "\(name)-\(count)"
        }
    }
}
