import Coordinator
import Core
import Foundation
import OneByte
import TestSupport
import Testing

/// Private runs of the real program on a tiny model.
@Suite(.serialized) struct PrivacyCommandTests {
    private func arguments(_ scratch: borrowing Scratch, _ more: String...) throws -> [String] {
        [
            "cluster", "--model", Binary.tinyModel, "--train-file", try scratch.reviews(), "--eval-file", try scratch.reviews("held-out.jsonl"),
            "--basis-text", "none", "--directory", "\(scratch.path)/run", "--template", "{text} It was", "--label", "0= bad", "--label", "1= good",
            "--adapter-inputs", "8", "--rounds", "6", "--samples-per-round", "24", "--evaluate-every", "0", "--digest-every", "2", "--workers", "2",
            "--threads", "1", "--privacy-epsilon", "6",
        ].overridden(by: more)
    }

    private func report(_ directory: String) throws -> RunReport {
        try JSONDecoder().decode(RunReport.self, from: Data(contentsOf: URL(filePath: "\(directory)/report.json")))
    }

    private func account(_ path: String) throws -> Double {
        struct Contents: Decodable { let rho: Double }
        return try JSONDecoder().decode(Contents.self, from: Data(contentsOf: URL(filePath: path))).rho
    }

    @Test("A private run keeps its budget, says so, tells no loss, and can't be audited")
    func run() async throws {
        let scratch = try Scratch()
        let run = "\(scratch.path)/run"
        let found = try await Binary.run(try arguments(scratch))
        try #require(found.status == 0, "\(found.errors)")
        let report = try report(run)
        let privacy = try #require(report.privacy)
        let epsilon = try #require(privacy.epsilon)
        #expect(epsilon > 5.9 && epsilon <= 6 && privacy.budget == 6 && privacy.delta == 1e-5)
        #expect(report.samplesWithoutValue == 0)
        #expect(found.output.contains("privacy           ε = 6.00 of 6.0 at δ = "), "\(found.output)")
        for number in 1...2 {
            let rho = try account("\(run)/privacy/worker-\(number)-of-2.json")
            #expect(abs(rho - 6 * PrivacyLoss.rho(noiseMultiplier: privacy.noiseMultiplier)) < 1e-9)
            let log = try String(contentsOfFile: "\(run)/logs/worker-\(number).log", encoding: .utf8)
            #expect(log.contains("private bytes so far: ε = "), "\(log)")
        }
        // Status messages of workers carry no loss; only the evaluator's own measurements do.
        let metrics = try String(contentsOfFile: "\(run)/metrics.jsonl", encoding: .utf8)
        #expect(metrics.contains("\"phase\"") && !metrics.contains("trainingLoss"), "\(metrics)")
        let shown = try await Binary.run("ledger", "show", run)
        #expect(shown.status == 0 && shown.output.contains("privacy         ε = 6.00 of 6.0"), "\(shown)")
        let audit = try await Binary.run(
            "ledger", "audit", run, "--machine", "1", "--model", Binary.tinyModel, "--train-file", "\(scratch.path)/reviews.jsonl", "--shard", "1/2")
        #expect(audit.status == 79 && audit.errors.contains("noise that nobody can draw again"), "\(audit)")
        let verified = try await Binary.run("ledger", "verify", run, "--base", Binary.tinyModel)
        #expect(verified.status == 0, "\(verified)")
    }

    @Test("A run whose rounds cost more than the budget stops giving bytes, and ends")
    func stop() async throws {
        let scratch = try Scratch()
        let run = "\(scratch.path)/run"
        // Noise for three of the six rounds.
        let noise = PrivacyLoss.noiseMultiplier(epsilon: 6, delta: 1e-5, releases: 3)
        let found = try await Binary.run(try arguments(scratch, "--privacy-noise", "\(noise)"))
        try #require(found.status == 0, "\(found.errors)")
        let report = try report(run)
        // The first round without any value is the last.
        #expect(report.samples == 96 && report.samplesWithoutValue == 24 && report.rounds == 4)
        #expect(found.errors.contains("privacy budgets are spent"), "\(found.errors)")
        let verified = try await Binary.run("ledger", "verify", run, "--base", Binary.tinyModel)
        #expect(verified.status == 0, "\(verified)")
        let epsilon = try #require(report.privacy?.epsilon)
        #expect(epsilon > 5.9 && epsilon <= 6)
        let log = try String(contentsOfFile: "\(run)/logs/worker-1.log", encoding: .utf8)
        #expect(log.contains("the budget is spent"), "\(log)")
        // Other numbers of workers would mean other shares and fresh accounts.
        let error = #expect(throws: ProcessFailure.self) { try RunDirectory(run).makeAccounts(ofWorkers: 3) }
        #expect(error?.message.contains("would be forgotten") == true)
        try RunDirectory(run).makeAccounts(ofWorkers: 2)
    }

    @Test("A worker's own budget holds against any coordinator, over restarts and runs")
    func ownBudget() async throws {
        let scratch = try Scratch()
        let (data, place) = (try scratch.reviews(count: 16), scratch.path)
        let account = "\(place)/account.json"
        let settings = [
            "--kind", "classification", "--template", "{text} It was", "--label", "0= bad", "--label", "1= good", "--train", "layers.2",
            "--damped-components", "none", "--rounds", "4", "--samples-per-round", "16", "--learning-rate", "0.01", "--max-length", "64",
            "--batch-size", "4", "--samples-per-batch", "4",
        ]
        func train(_ name: String, _ coordinator: [String], _ worker: [String]) async throws -> Binary.Outcome {
            let address = "ipc://\(place)/\(name)"
            let script = """
                onebyte coordinator --directory \(place)/\(name)-run --listen \(address) \(coordinator.map { "'\($0)'" }.joined(separator: " ")) \
                    > \(place)/\(name).log 2>&1 &
                onebyte worker --coordinator \(address) --model "$MODEL" --train-file \(data) --threads 1 --privacy-account \(account) \
                    \(worker.joined(separator: " "))
                """
            return try await Binary.runScript(script, seconds: 120, in: place)
        }
        let open = try await train("open", settings, ["--privacy-budget", "3"])
        #expect(open.status == 78 && open.errors.contains("gives only private bytes"), "\(open)")
        #expect(!FileManager.default.fileExists(atPath: account))
        // Who asks for an account asks for private runs, with or without a budget.
        let named = try await train("named", settings, [])
        #expect(named.status == 78 && named.errors.contains("gives only private bytes"), "\(named)")

        let secret = settings + ["--privacy-epsilon", "100", "--privacy-delta", "0.01", "--privacy-noise", "2"]
        let first = try await train("first", secret, ["--privacy-budget", "3", "--privacy-delta", "0.001"])
        #expect(first.status == 0 && (first.errors + first.output).contains("the budget is spent"), "\(first)")
        #expect((first.errors + first.output).contains("new privacy account at "), "\(first)")
        let spent = try self.account(account)
        #expect(spent > 0 && PrivacyLoss.epsilon(rho: spent, delta: 0.001) <= 3)
        // In another run with the same account nothing is left.
        let second = try await train("second", secret, ["--privacy-budget", "3", "--privacy-delta", "0.001"])
        #expect(second.status == 0 && (second.errors + second.output).contains("account.json has spent ε = 2."), "\(second)")
        #expect(try self.account(account) == spent)
        let show = try await Binary.run("ledger", "show", "\(place)/second-run", "--records")
        #expect(show.output.contains("valid=0"), "\(show.output)")

        try Data("{}".utf8).write(to: URL(filePath: account))
        let damaged = try await train("third", secret, [])
        #expect(damaged.status == 65 && damaged.errors.contains("no privacy account"), "\(damaged)")
    }

    @Test("Settings of a private run are checked before anything starts")
    func settings() async throws {
        let scratch = try Scratch()
        for (more, expected) in [
            (["--privacy-epsilon", "0.001", "--privacy-delta", "1e-6", "--rounds", "10000"], "nothing could be learned"),
            (["--objective", "f1"], "a mean over examples"),
            (["--privacy-epsilon", "-1"], "privacy-epsilon"),
        ] {
            let found = try await Binary.run(try arguments(scratch).overridden(by: more))
            #expect(found.status == 64 && found.errors.contains(expected), "\(more): \(found)")
        }
        let coordinator = try await Binary.run(
            "coordinator", "--print-config", "--kind", "text", "--privacy-epsilon", "4", "--batch-size", "8", "--train", "layers.2")
        #expect(coordinator.status == 64 && coordinator.errors.contains("--privacy-noise"), "\(coordinator)")
        let alone = try await Binary.run(
            "worker", "--coordinator", "ipc:///nowhere", "--model", Binary.tinyModel, "--train-file", "x", "--privacy-delta", "0.1")
        #expect(alone.status == 64 && alone.errors.contains("--privacy-budget"), "\(alone)")
    }

    @Test("The membership attack reads a ledger with and without noise")
    func membership() async throws {
        struct Found: Decodable {
            struct Result: Decodable {
                let members: Int
                let others: Int
                let auc: Double
            }
            let knowing_the_kind: Result
            let knowing_the_others: Result
        }
        let scratch = try Scratch()
        let others = try scratch.file(
            "others.jsonl", (0..<40).map { #"{"text":"another film, the \#($0)th of many","label":\#($0 % 2)}"# + "\n" }.joined())
        let data = "\(scratch.path)/reviews.jsonl"
        for epsilon in ["0", "2"] {
            let run = "\(scratch.path)/run\(epsilon)"
            let cluster = try await Binary.run(try arguments(scratch, "--privacy-epsilon", epsilon, "--directory", run))
            try #require(cluster.status == 0, "\(cluster.errors)")
            // The evaluator is a machine too, and has no bytes. Machine numbers depend on who connected first.
            func attack(_ more: String...) async throws -> Binary.Outcome {
                for machine in 1...3 {
                    let found = try await Binary.run(
                        [
                            "ledger", "membership", run, "--machine", "\(machine)", "--model", Binary.tinyModel, "--train-file", data, "--shard",
                            "1/2",
                            "--others", others, "--threads", "1",
                        ] + more)
                    if found.status == 0 { return found }
                    #expect(found.errors.contains("has no bytes"), "\(found)")
                }
                return Binary.Outcome(status: 1, output: "", errors: "no machine has bytes")
            }
            let found = try await attack("--format", "json")
            try #require(found.status == 0, "\(found.errors)")
            let result = try JSONDecoder().decode(Found.self, from: Data(found.output.utf8))
            for one in [result.knowing_the_kind, result.knowing_the_others] {
                #expect(one.members == 12 && one.others == 20 && (0...1).contains(one.auc))
            }
            // Only the rounding to a byte hides an example from somebody who knows all others.
            if epsilon == "0" { #expect(result.knowing_the_others.auc > 0.6, "\(found.output)") }
            let text = try await attack()
            #expect(text.output.contains("against 12 members and 20 others"), "\(text)")
        }
    }

    @Test("Bytes that a filter took away cost as much as others, and nothing costs more than the budget")
    func ledgerEpsilon() async throws {
        struct Shown: Decodable { let privacy: PrivacyReport }
        let golden = try #require(Golden.all.ledgers.first { $0.name == "filter-clip" })
        let scratch = try Scratch()
        for epsilon in [9.0, 900] {
            var ledger = try ForgedLedger(golden.bytes())
            guard case .spec(let bytes)? = ledger.records.first else { throw CocoaError(.coderReadCorrupt) }
            var spec = try RunSpec(canonicalBytes: bytes)
            let privacy = Privacy(clip: 1, noiseMultiplier: 1, epsilon: epsilon, delta: 1e-5)
            (spec.privacy, spec.batchSize) = (privacy, RunSpecLimits.allExamples)
            ledger.records[0] = .spec(try spec.canonicalBytes())
            for number in [3, 7, 12] as [RoundNumber] {
                ledger.alter(round: number) { round in
                    RoundRecord(
                        round: round.round, scaleExponent: round.scaleExponent, step: round.step,
                        contributions: round.contributions.map {
                            Contribution(machine: $0.machine, firstSample: $0.firstSample, bytes: $0.bytes.map { _ in Contribution.noValue })
                        })
                }
            }
            var counts: [MachineID: Int] = [:]
            for case .round(let round) in ledger.records { for contribution in round.contributions { counts[contribution.machine, default: 0] += 1 } }
            let path = "\(scratch.path)/ledger"
            try Data(ledger.bytes).write(to: URL(filePath: path))
            let shown = try await Binary.run("ledger", "show", path, "--format", "json")
            try #require(shown.status == 0, "\(shown)")
            let report = try JSONDecoder().decode(Shown.self, from: Data(shown.output.utf8)).privacy
            let expected = privacy.epsilon(releases: counts.values.max() ?? 0)
            #expect(report.epsilon == min(expected, epsilon) && expected > 9 && expected < 900)
            let text = try await Binary.run("ledger", "show", path)
            #expect(text.output.contains("of the ledger's bytes; a worker's account has the truth"), "\(text)")
        }
    }

    // MARK: The account's file

    @Test("An account has one place, whatever links lead to it, and one name alone")
    func accountFile() throws {
        let scratch = try Scratch()
        let real = "\(scratch.path)/real"
        let manager = FileManager.default
        try manager.createDirectory(atPath: real, withIntermediateDirectories: false)
        try manager.createSymbolicLink(atPath: "\(scratch.path)/way", withDestinationPath: real)
        let path: String
        do {
            // A new account behind a link to its directory.
            let new = try PrivacyAccountFile("\(scratch.path)/way/mine.json")
            path = new.path
            #expect(path.hasSuffix("/real/mine.json") && path.hasPrefix("/"))
            #expect(new.text(delta: 1e-5) == "new privacy account at \(path): nothing spent so far" && new.rho == 0)
            let held = #expect(throws: ProcessFailure.self) { try PrivacyAccountFile("\(real)/mine.json") }
            #expect(held?.status == .temporary)
            try new.keep(0.25)
        }
        let link = "\(scratch.path)/link.json"
        try manager.createSymbolicLink(atPath: link, withDestinationPath: path)
        do {
            let linked = try PrivacyAccountFile(link)
            #expect(linked.path == path && linked.rho == 0.25)
            #expect(linked.text(delta: 1e-5).hasPrefix("the privacy account at \(path) has spent ε = 3."))
            // The lock is the file's own, and a write leaves the link a link.
            #expect(throws: ProcessFailure.self) { try PrivacyAccountFile(path) }
            try linked.keep(0.5)
        }
        #expect(try manager.destinationOfSymbolicLink(atPath: link) == path)
        #expect(try account(path) == 0.5)

        let twin = "\(scratch.path)/twin.json"
        try manager.linkItem(atPath: path, toPath: twin)
        for name in [path, twin] {
            let refused = #expect(throws: ProcessFailure.self) { try PrivacyAccountFile(name) }
            #expect(refused?.status == .configuration && refused?.message.contains("2 names") == true)
        }
        try manager.removeItem(atPath: twin)
        #expect(try PrivacyAccountFile(path).rho == 0.5)

        try manager.removeItem(atPath: path)
        let dangling = #expect(throws: ProcessFailure.self) { try PrivacyAccountFile(link) }
        #expect(dangling?.message.contains("can't use the privacy account") == true)
        #expect(throws: ProcessFailure.self) { try PrivacyAccountFile("\(scratch.path)/nowhere/mine.json") }
    }

    // MARK: The plan

    @Test("The noise is planned for the pieces in which shares cut batches, for trials, and in numbers that don't overflow")
    func plan() throws {
        func planned(_ flags: [SettingKey: [String]], examples: Int = 80, workers: Int = 2) throws -> Settings {
            let usual: [SettingKey: [String]] = [
                .kind: ["text"], .trainFile: ["unread.jsonl"], .train: ["layers.1"], .privacyEpsilon: ["4"], .rounds: ["10"],
                .samplesPerRound: ["8"], .samplesPerBatch: ["4"], .batchSize: ["4"],
            ]
            var settings = try Settings(file: nil, flags: usual.merging(flags) { $1 })
            try settings.derivePrivacy(examples: examples, workers: workers)
            return settings
        }
        func noise(_ releases: Double, delta: Double = 1e-5) -> Double { PrivacyLoss.noiseMultiplier(epsilon: 4, delta: delta, releases: releases) }
        // Each worker's 10 shares are 10 batches of 4 of its 40 examples.
        #expect(try planned([:]).number(.privacyNoise) == noise(1))
        // Batches of 8 samples in shares of 4 are released twice.
        #expect(try planned([.samplesPerBatch: ["8"], .batchSize: ["8"]]).number(.privacyNoise) == noise(2))
        // The worker with the fewest examples reads them most often: 40 places are two epochs of 39.
        #expect(try planned([:], examples: 79).number(.privacyNoise) == noise(2))
        // Five trials of 10 rounds come on top of the 10.
        #expect(try planned([.batchSize: ["all"], .rateTrials: ["10"]]).number(.privacyNoise) == noise(60))
        #expect(try planned([.batchSize: ["all"]]).number(.privacyNoise) == noise(10))
        // δ is far below 1/n.
        let large = try planned([:], examples: 200_000)
        #expect(try large.number(.privacyDelta) == 1 / 1_000_000 && planned([:]).number(.privacyDelta) == 1e-5)
        let error = #expect(throws: SettingsError.self) {
            try planned(
                [
                    .rounds: ["2000000000"], .samplesPerRound: ["\(RunSpecLimits.samplesPerRound.upperBound)"], .batchSize: ["1048576"],
                    .samplesPerBatch: ["1"],
                ],
                examples: 2)
        }
        #expect(error.map { "\($0)".contains("nothing could be learned") } == true)
    }
}
