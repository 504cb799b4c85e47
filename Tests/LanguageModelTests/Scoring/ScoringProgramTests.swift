import Core
import Foundation
import LanguageModel
import Synchronization
import Testing
import Training

/// An external program that behaves, and all the ways in which one may misbehave.
struct ScoringProgramTests {
    /// Returns the command for a Python program; `requests` reads the lines as objects.
    private static func python(_ body: String) -> String {
        let text =
            "import json, sys, time\nrequests = (json.loads(line) for line in sys.stdin)\ndef answer(r, s): print(json.dumps({'id': r['id'], 'score': s}), flush=True)\n"
            + body
        return "exec python3 -c \"$(cat <<'PYTHON'\n\(text)\nPYTHON\n)\""
    }

    private func texts(_ count: Int, length: Int = 1) -> [WrittenText] {
        (0..<count).map { WrittenText(prompt: WritingPrompt("prompt \($0)"), text: String(repeating: "x", count: length) + "\($0)") }
    }

    private func message(_ program: ScoringProgram, _ count: Int = 3) -> String {
        do {
            _ = try program.scores(of: texts(count))
            return "no error"
        } catch { return "\(error)" }
    }

    @Test func answersMayComeInAnyOrderAndTheProgramStays() throws {
        let program = ScoringProgram(
            .init(
                command: Self.python(
                    """
                    seen = 0
                    while True:
                        batch = [next(requests) for _ in range(4)]
                        seen += 4
                        for r in reversed(batch): answer(r, int(r['text'][1:]) + seen / 1000)
                    """)))
        #expect(try program.scores(of: texts(4)) == [0.004, 1.004, 2.004, 3.004])
        #expect(try program.scores(of: texts(4)) == [0.008, 1.008, 2.008, 3.008])
        #expect(try program.scores(of: []).isEmpty)
    }

    @Test("The request has id, prompt, text and the record's further fields")
    func request() throws {
        let program = ScoringProgram(
            .init(
                command: Self.python(
                    """
                    for r in requests: answer(r, 1 if r == {'id': r['id'], 'prompt': 'p "1"', 'text': 'é\\n', 'label': 7} else 0)
                    """)))
        let example = try ScoreEstimatorTests.encode(
            TaskSpec(kind: .completion, maxLength: 40, objective: .command, writing: Writing(maxTokens: 4)), #"{"prompt": "p \"1\"", "label": 7}"#)
        guard case .text(let prompt) = example.objective else {
            Issue.record("\(example.objective)")
            return
        }
        #expect(try program.scores(of: [WrittenText(prompt: prompt, text: "é\n")]) == [1])
    }

    /// Megabytes go each way, and the program answers only after it has read all lines.
    @Test func aHugeBatchDoesNotBlock() throws {
        let program = ScoringProgram(
            .init(
                command: Self.python(
                    """
                    batch = [next(requests) for _ in range(5000)]
                    sys.stderr.write('e' * 200000 + '\\n')
                    for r in batch: print(json.dumps({'id': r['id'], 'score': 0.5, 'text': r['text']}))
                    sys.stdout.flush()
                    time.sleep(60)
                    """)))
        let scores = try program.scores(of: texts(5000, length: 800))
        #expect(scores.count == 5000 && scores.allSatisfy { $0 == 0.5 })
    }

    @Test("A program that never stops writing is timed out")
    func endlessWords() {
        let started = ContinuousClock.now
        let found = message(ScoringProgram(.init(command: "yes words without end >&2 & exec sleep 60", timeoutSeconds: 0.5)))
        #expect(found.contains("no answer to 3 of 3 texts"), "\(found.prefix(500))")
        #expect(started.duration(to: .now) < .seconds(20))
    }

    @Test func aSlowAnswerIsATimeOut() {
        let program = ScoringProgram(
            .init(command: Self.python("sys.stderr.write('thinking\\n'); sys.stderr.flush(); time.sleep(60)"), timeoutSeconds: 1))
        let found = message(program)
        #expect(found.contains("no answer to 3 of 3 texts within 1.0 s") && found.contains("thinking"), "\(found)")
    }

    @Test(arguments: [
        ("print('hello', flush=True)", "no JSON object: hello"), ("print('[1]', flush=True)", "no JSON object: [1]"),
        ("print('{}', flush=True)", "no \"id\""), ("print('{\"id\": 77, \"score\": 1}', flush=True)", "the id 77"),
        ("for r in requests: print('{\"id\": %d, \"score\": \"much\"}' % r['id'], flush=True)", "no finite number"),
        ("for r in requests: print('{\"id\": %d, \"score\": NaN}' % r['id'], flush=True)", "no JSON object"),
        ("for r in requests: print('{\"id\": %d}' % r['id'], flush=True)", "no finite number"),
        ("for r in requests: answer(r, 1); answer(r, 1)", "a second score"),
    ])
    func aBadLineIsAnErrorThatShowsIt(_ body: String, _ expected: String) {
        let found = message(ScoringProgram(.init(command: Self.python(body + "\ntime.sleep(60)"))))
        #expect(found.contains(expected), "\(found)")
        #expect(found.contains("the objective's command \"exec python3"))
    }

    @Test func onceAnEndIsForgivenTwiceItIsAnError() throws {
        let lines = Mutex<[String]>([])
        // The program answers one batch each time it is started.
        let once = ScoringProgram(.init(command: Self.python("for i, r in zip(range(3), requests): answer(r, i)"))) { line in
            lines.withLock { $0.append(line) }
        }
        for _ in 0..<3 { #expect(try once.scores(of: texts(3)) == [0, 1, 2]) }
        #expect(lines.withLock { $0.contains { $0.contains("starting it again") } })
        let never = ScoringProgram(.init(command: "echo alas >&2; exit 3"))
        let found = message(never)
        #expect(found.contains("it ended with status 3") && found.contains("alas") && found.contains("after a restart"), "\(found)")
        #expect(message(ScoringProgram(.init(command: "no-such-program-at-all"))).contains("status 127"))
        #expect(message(ScoringProgram(.init(command: "kill -9 $$"))).contains("signal 9"))
        #expect(message(ScoringProgram(.init(command: "exec >&-; sleep 60"))).contains("closed its output"))
    }

    private func wait(until isSo: () throws -> Bool) throws {
        let end = ContinuousClock.now + .seconds(10)
        while try !isSo(), ContinuousClock.now < end { usleep(20_000) }
    }

    @Test func nothingOfItIsLeft() throws {
        let mark = "\(6_000_000 + Int.random(in: 0..<1_000_000))"
        func count() throws -> Int {
            try FileManager.default.contentsOfDirectory(atPath: "/proc").count { entry in
                Int(entry) != nil && FileManager.default.contents(atPath: "/proc/\(entry)/cmdline")?.range(of: Data("sleep\0\(mark)".utf8)) != nil
            }
        }
        do {
            let program = ScoringProgram(.init(command: "sleep \(mark) & read line; echo '{\"id\": 0, \"score\": 1}'; sleep \(mark)"))
            #expect(try program.scores(of: texts(1)) == [1])
            // Right after the fork a child has not yet become the program.
            try wait(until: { try count() > 0 })
            #expect(try count() > 0)
            withExtendedLifetime(program) {}
        }
        try wait(until: { try count() == 0 })
        #expect(try count() == 0)
    }

    @Test func whoIsNotWantedAnyMoreStops() {
        let program = ScoringProgram(.init(command: "sleep 60"))
        program.isCancelled = { true }
        #expect(throws: ScoringError.self) { try program.scores(of: texts(1)) }
    }
}
