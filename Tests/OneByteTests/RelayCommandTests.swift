import Core
import Foundation
import Testing

/// Tests of the relay as a command, between the program's own coordinator and workers.
@Suite struct RelayCommandTests {
    private func run(_ script: String, in scratch: borrowing Scratch) async throws -> Binary.Outcome {
        try await Binary.runScript(Binary.smallRun(rounds: 8) + script, seconds: 100, in: scratch.path)
    }

    @Test("With keys on either side, files for the join strings and a kill in between, a run by a relay ends, and the relay with it")
    func wholeRun() async throws {
        let scratch = try Scratch()
        let found = try await run(
            """
            onebyte keygen c.key > c.pub; onebyte keygen site.key > site.pub
            relay() { onebyte relay --coordinator-file far --join-file near --listen "$1" --key site.key 2>> relay.log & relay=$!; }
            relay 'tcp://127.0.0.1:*'
            onebyte worker --join-file near --model "$MODEL" --train-file train.jsonl --threads 1 --name a 2> a.log & a=$!
            onebyte coordinator --config run.toml --directory run --listen 'tcp://127.0.0.1:*' --key c.key --allow site.pub --join-file far \
                --rounds 400 --samples-per-round 2 --learning-rate 0.0001 > report 2> coordinator.log & coordinator=$!
            until grep -q '"event":"round"' run/metrics.jsonl 2> /dev/null; do sleep 0.05; done
            place=$(sed 's/?.*//' near)
            cut -d'?' -f2 near | tr '&' '\\n' | sed 's/=.*//' | tr '\\n' ' '; echo
            kill -9 $relay; wait $relay || true
            relay "$place"
            wait $a && wait $coordinator && wait $relay
            [ ! -e near ] && echo gone
            grep -c 'joined as machine' coordinator.log
            grep -q 'far link: ' relay.log && grep -q 'the run has ended' relay.log && echo said
            onebyte ledger verify run > /dev/null && echo verified
            """, in: scratch)
        #expect(found.status == 0, "\(found.output)\n\(found.errors)")
        #expect(found.output.hasSuffix("gone\n1\nsaid\nverified\n"), "\(found.output)\n\(found.errors)")
        #expect(found.output.hasPrefix("key run "), "\(found.output)")
    }

    @Test("A check passes through a relay, and says so when its coordinator is gone; who has waited for a join string still ends in order")
    func doctor() async throws {
        let scratch = try Scratch()
        let found = try await run(
            """
            onebyte worker --join-file near --model "$MODEL" --train-file train.jsonl --threads 1 2> worker.log & worker=$!
            onebyte relay --coordinator-file far --join-file near --listen 'tcp://127.0.0.1:*' 2> relay.log & relay=$!
            sleep 1
            onebyte coordinator --config run.toml --directory run --listen 'tcp://127.0.0.1:*' --join-file far \
                --rounds 100000 --samples-per-round 2 --learning-rate 0.0001 > report 2> coordinator.log & coordinator=$!
            until grep -q '"event":"round"' run/metrics.jsonl 2> /dev/null; do sleep 0.05; done
            onebyte doctor --join-file near --wait 3 > healthy && echo healthy
            kill $worker; wait $worker && echo left
            kill -9 $coordinator; wait $coordinator || true
            onebyte doctor --join-file near --wait 3 > silent 2> said || echo $?
            grep -c 'a relay is there, and no answer of its coordinator' said
            kill $relay; wait $relay && echo ended
            """, in: scratch)
        #expect(found.output == "healthy\nleft\n69\n1\nended\n", "\(found.output)\n\(found.errors)")
    }

    @Test("Wrong uses are errors at once, with what to do")
    func wrongUse() async throws {
        #expect(try await Binary.run(["relay"]).status == Core.ExitStatus.usage.rawValue)
        #expect(try await Binary.run(["relay", "--coordinator", "tcp://127.0.0.1:1", "--allow", "x"]).status == Core.ExitStatus.usage.rawValue)
        let open = try await Binary.run(["relay", "--coordinator", "tcp://127.0.0.1:1", "--listen", "tcp://0.0.0.0:0"])
        #expect(open.status == Core.ExitStatus.configuration.rawValue && open.errors.contains("--insecure"), "\(open.errors)")
        let alone = try await Binary.run(["relay", "--coordinator", "tcp://127.0.0.1:1", "--listen", "tcp://127.0.0.1:0", "--patience", "1"])
        #expect(alone.status == Core.ExitStatus.unavailable.rawValue && alone.errors.contains("no word from the coordinator"), "\(alone.errors)")
    }
}
