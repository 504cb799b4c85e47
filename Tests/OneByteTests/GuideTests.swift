import Foundation
import Testing

/// Runs the pages of docs/guide as a reader would, with a model of 37 thousand parameters.
@Suite struct GuideTests {
    /// The shell commands of a page, in order.
    ///
    /// A block that begins with ```` ```sh ```` is run; one that begins with ```` ```sh no-test ```` is not. A comment that begins with
    /// `<!-- test` provides the reader's own situation, such as data files; it is run too, at its place. Everything runs in one shell, so
    /// that variables are kept.
    struct Page: CustomTestStringConvertible {
        let name: String
        let script: String
        let skippedBlocks: Int

        var testDescription: String { name }

        init(name: String, text: String) {
            self.name = name
            var script = ""
            var skippedBlocks = 0
            var end: String?
            for line in text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init) {
                if let awaited = end {
                    if line == awaited { end = nil } else { script += line + "\n" }
                } else if line == "```sh" {
                    end = "```"
                } else if line == "<!-- test" {
                    end = "-->"
                } else if line == "```sh no-test" {
                    skippedBlocks += 1
                }
            }
            self.script = script
            self.skippedBlocks = skippedBlocks
        }
    }

    static let directory = Binary.packageRoot.appending(path: "docs/guide")

    static let pages: [Page] = {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory.path)) ?? []
        return names.filter { $0.hasSuffix(".md") }.sorted().compactMap { name in
            (try? String(contentsOf: directory.appending(path: name), encoding: .utf8)).map { Page(name: name, text: $0) }
        }
    }()

    /// Time limit, so that a command that waits for somebody who never comes does not hang the tests.
    private static let limitSeconds = 180

    @Test(arguments: pages.filter { !$0.script.isEmpty })
    func everyCommandOfAPageRuns(_ page: Page) async throws {
        let scratch = try Scratch()
        let found = try await Binary.runScript(page.script, model: Binary.tinyGGUF, seconds: Self.limitSeconds, in: scratch.path)
        #expect(found.status == 0, "\(page.name):\n\(found.output.suffix(2000))\n\(found.errors.suffix(2000))")
    }

    @Test func thePagesOfTheGuideAreThere() {
        let expected = [
            "first-run.md", "presets.md", "privacy.md", "reading-the-report.md", "several-machines.md", "troubleshooting.md", "what-to-train.md",
            "when-not-to-use-it.md", "words.md", "your-data.md",
        ]
        #expect(Self.pages.map(\.name) == expected)
        #expect(Self.pages.reduce(0) { $0 + $1.skippedBlocks } <= 8, "nearly all commands are run")
    }

    @Test(arguments: pages)
    func aPageIsAtMostTwoScreensWithOneTable(_ page: Page) throws {
        let text = try String(contentsOf: Self.directory.appending(path: page.name), encoding: .utf8)
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        #expect(lines.count <= 105, "\(page.name) has \(lines.count) lines")
        #expect(lines.count { $0.hasPrefix("| ---") } <= 1, "\(page.name)")
    }
}
