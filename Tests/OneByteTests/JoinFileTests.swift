import Core
import Foundation
import Testing

/// Tests of a coordinator and workers that find each other through a file.
@Suite struct JoinFileTests {
    private func run(_ script: String, in scratch: borrowing Scratch) async throws -> Binary.Outcome {
        try await Binary.runScript(Binary.smallRun(rounds: 6) + script, seconds: 100, in: scratch.path)
    }

    @Test("A worker that is started first waits for the file; only its owner can read it, and it is removed after the run")
    func workerFirst() async throws {
        let scratch = try Scratch()
        let found = try await run(
            """
            onebyte worker --join-file shared --model "$MODEL" --train-file train.jsonl --threads 1 2> worker.log & worker=$!
            until grep -q 'waiting for a coordinator' worker.log; do sleep 0.05; done
            onebyte coordinator --config run.toml --directory run --listen 'tcp://127.0.0.1:*' --join-file shared > report 2> coordinator.log & coordinator=$!
            until [ -s shared ]; do sleep 0.05; done
            stat -c %a shared
            wait $worker && wait $coordinator
            [ ! -e shared ] && echo gone
            """, in: scratch)
        #expect(found.status == 0 && found.output == "600\ngone\n", "\(found.output)\n\(found.errors)")
    }

    @Test("A coordinator that restarts on another port is found through the file, and its machine keeps its number")
    func anotherAddress() async throws {
        let scratch = try Scratch()
        let found = try await run(
            """
            coordinator() { onebyte coordinator --config run.toml --directory run --listen 'tcp://127.0.0.1:*' --join-file shared --rounds 4000 --samples-per-round 2 --learning-rate 0.0001 > report 2>> coordinator.log & coordinator=$!; }
            coordinator
            onebyte worker --join-file shared --model "$MODEL" --train-file train.jsonl --threads 1 2> worker.log & worker=$!
            until grep -q '"event":"round"' run/metrics.jsonl 2> /dev/null; do sleep 0.05; done
            kill -9 $coordinator; wait $coordinator || true
            before=$(cat shared)
            rounds() { grep -c '"event":"round"' run/metrics.jsonl; }
            had=$(rounds)
            coordinator
            until grep -q 'is at tcp' worker.log; do sleep 0.05; done
            until [ "$(rounds)" -gt "$had" ]; do sleep 0.05; done
            [ "$(cat shared)" != "$before" ] && echo elsewhere
            kill $coordinator $worker; wait
            onebyte ledger show run --records | grep -c 'admission'
            """, in: scratch)
        #expect(found.status == 0 && found.output == "elsewhere\n1\n", "\(found.output)\n\(found.errors)")
    }

    @Test("Giving neither or both of address and file, or a file with other contents, is an error at once")
    func wrongUse() async throws {
        let scratch = try Scratch()
        let file = try scratch.file("not-a-join", "hello there\n")
        let worker = ["worker", "--model", Binary.tinyModel, "--train-file", try scratch.reviews()]
        #expect(try await Binary.run(worker).status == Core.ExitStatus.usage.rawValue)
        #expect(try await Binary.run(worker + ["--join-file", file, "--coordinator", "tcp://127.0.0.1:1"]).status == Core.ExitStatus.usage.rawValue)
        let bad = try await Binary.run(worker + ["--join-file", file])
        #expect(bad.status == Core.ExitStatus.badData.rawValue && bad.errors.contains("holds no join string"), "\(bad.errors)")
        let late = try await Binary.run(worker + ["--join-file", "\(scratch.path)/never", "--patience", "0.3"])
        #expect(late.status == Core.ExitStatus.unavailable.rawValue && late.errors.contains("no coordinator has written"), "\(late.errors)")
    }
}
