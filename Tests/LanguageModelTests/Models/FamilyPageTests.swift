import Core
import Foundation
import LanguageModel
import Testing
import Training

/// Makes the table of families in docs/reference/models.md from measurements; `ONEBYTE_WRITE_PAGES=1` writes it.
@Suite struct FamilyPageTests {
    private static let page = TestModels.packageRoot.appending(path: "docs/reference/models.md")
    private static let (begin, end) = ("<!-- families: made by FamilyPageTests -->\n", "<!-- families end -->\n")

    @Test func thePageHasARowForEachFamily() throws {
        let page = try String(contentsOf: Self.page, encoding: .utf8)
        let from = try #require(page.range(of: Self.begin))
        let to = try #require(page.range(of: Self.end))
        let table = try Self.table()
        if ProcessInfo.processInfo.environment["ONEBYTE_WRITE_PAGES"] != nil {
            try (page[..<from.upperBound] + table + page[to.lowerBound...]).write(to: Self.page, atomically: true, encoding: .utf8)
        }
        #expect(page[from.upperBound..<to.lowerBound] == table, "run the test with ONEBYTE_WRITE_PAGES=1 to write the table")
    }

    private static func table() throws -> String {
        var text =
            "| family | models | what differs from llama | GGUF | checked with | losses within | greedy text |\n| --- | --- | --- | --- | --- | --- | --- |\n"
        for family in ModelFamily.all {
            let fixtures = FamilyFixture.all.values.filter { $0.config["model_type"] as? String == family.name }.sorted { $0.name < $1.name }
            let measured = try fixtures.map(measure)
            let names = fixtures.map(\.name).joined(separator: ", ")
            let loss = measured.map(\.error).max().map { $0 < 1e-5 ? "1e-5" : "\($0)" } ?? "as `gemma3_text`"
            let writes = fixtures.isEmpty ? "" : measured.allSatisfy(\.writes) ? "=" : "differs"
            text +=
                "| `\(family.name)` | \(family.title) | \(family.form) | \(family.gguf.map { "`\($0)`" } ?? "–") | \(names) | \(loss) | \(writes) |\n"
        }
        return text
    }

    /// Returns the largest relative difference of a loss from transformers' in F64, and whether the greedy text is the same.
    private static func measure(_ fixture: FamilyFixture) throws -> (error: Double, writes: Bool) {
        try fixture.with { source in
            let model = try TrainableModel(source: source)
            func loss(_ example: Example) throws -> Double {
                let set = try ExampleSet([example], for: source.configuration)
                return try Evaluator(model: model, cache: PrefixCache(model: model, set: set)).evaluate().meanLoss
            }
            let text = fixture.losses.reduce(0, +) / Double(fixture.losses.count)
            let errors = [
                abs(try loss(ForwardParityTests.text(fixture.tokens)) - text) / text,
                abs(try loss(fixture.choiceExample) - fixture.choice) / max(fixture.choice, 1),
            ]
            let written = try Generator(model: model).generate(
                prompt: Array(fixture.tokens.prefix(8)), options: .init(maxTokens: fixture.written.count))
            return (errors.max() ?? .infinity, written == fixture.written)
        }
    }
}
