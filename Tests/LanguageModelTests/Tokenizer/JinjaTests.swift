import Foundation
import LanguageModel
import Testing

@Suite struct JinjaTests {
    private struct Program: Decodable {
        let program: String
        let text: String
    }

    private static let conversation: [String: JinjaValue] = [
        "messages": .list(
            [("system", "Be brief."), ("user", "Hello \"there\"\n"), ("assistant", " Hi!\n"), ("user", "\n\n1"), ("assistant", "\nIt is 2.\n\n")].map
            {
                .dictionary(JinjaDictionary([(.text("role"), .text($0.0)), (.text("content"), .text($0.1))]))
            }),
        "bos_token": .text("<|begin|>"),
    ]

    private func render(_ source: String) throws -> String { try JinjaTemplate(source).render(Self.conversation).text.string }

    /// Programs write the same text as in Jinja itself (Fixtures/make_chat.py).
    @Test func programsWriteWhatJinjaWrites() throws {
        let programs = try JSONDecoder().decode([Program].self, from: Data(contentsOf: fixture("jinja.json")))
        #expect(programs.count == 26)
        for program in programs { #expect(try render(program.program) == program.text, "\(program.program)") }
    }

    @Test(
        .timeLimit(.minutes(1)),
        arguments: [
            "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            "{{ 'abcdefgh' * 100000000 }}", "{{ range(1000000) }}",
            "{% set ns = namespace(t='x' * 1000) %}{% for i in range(100) %}{% set ns.t = ns.t + ns.t %}{% endfor %}",
            "{{ 9223372036854775807 + 1 }}", "{{ 3 ** 64 }}", "{{ -9223372036854775807 - 1 - 1 }}", "{{ '%99999999d' % 1 }}{{ 'x' * 40000000 }}",
        ])
    func limitsHold(_ program: String) throws {
        let error = #expect(throws: JinjaError.self) { try render(program) }
        #expect(error?.code == .limit, "\(error?.problem ?? "")")
    }

    @Test(arguments: [
        ("{{ x.y }}", "\"x\" is not defined"), ("{{ x + 1 }}", "has nothing to work on"),
        ("{{ 1 + 'a' }}", "\"+\" does not go with an integer and a string"),
        ("{{ 1 // 0 }}", "divided by 0"), ("{{ 'a' | shout }}", "the filter \"shout\" is not known"),
        ("{{ 1 is shiny }}", "the test \"shiny\" is not known"),
        ("{{ f(1) }}", "\"f\" is not defined, so it can't be called"), ("{% for a in 5 %}{% endfor %}", "can't be looped over"),
        ("{{ {}.clear() }}", "can't be called"),
        ("{{ messages.append(1) }}", "can't be called"), ("{{ x | tojson }}", "can't be written as JSON"), ("{% set a.b = 1 %}", "is no namespace"),
        ("\n\n{{ 'a'.encode() }}", "the method \"encode\" is not known"),
    ])
    func errorsNameWhatIsWrong(_ program: String, _ text: String) throws {
        let error = #expect(throws: JinjaError.self) { try render(program) }
        #expect(error?.problem.contains(text) == true, "\(error?.problem ?? "")")
        #expect(error?.line == (program.hasPrefix("\n") ? 3 : 1))
    }

    @Test func theDateIsTold() throws {
        let text = try JinjaTemplate("{{ strftime_now('%d %b %Y') }}").render([:], now: { JinjaDate(secondsSince1970: 129_600) }).text.string
        #expect(text == "02 Jan 1970")
    }

    /// Truncated and damaged programs give an error or a text, never a crash.
    @Test func damagedProgramsAreErrors() throws {
        let programs = try JSONDecoder().decode([Program].self, from: Data(contentsOf: fixture("jinja.json"))).map(\.program)
        var random = SplitMix64(state: 5)
        for program in programs {
            let scalars = Array(program.unicodeScalars)
            for _ in 0..<60 {
                var damaged = scalars
                switch UInt64.random(in: 0..<3, using: &random) {
                case 0: damaged.removeLast(Int.random(in: 0..<damaged.count, using: &random))
                case 1: damaged.remove(at: Int.random(in: 0..<damaged.count, using: &random))
                default: damaged.swapAt(Int.random(in: 0..<damaged.count, using: &random), Int.random(in: 0..<damaged.count, using: &random))
                }
                do { _ = try render(String(String.UnicodeScalarView(damaged))) } catch { #expect(error is JinjaError) }
            }
        }
    }
}
