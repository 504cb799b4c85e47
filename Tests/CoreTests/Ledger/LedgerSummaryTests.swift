import Core
import Simulator
import Testing

@Suite struct LedgerSummaryTests {
    private static let begin: [LedgerRecord] = [.baseManifest(Samples.base), Samples.admission(1), Samples.admission(2)]

    private func reason(_ records: [LedgerRecord]) throws -> String {
        let bytes = try Samples.ledger(Samples.spec(), Self.begin + records)
        do {
            _ = try Samples.summary(of: bytes)
            return "accepted"
        } catch let error as LedgerError {
            guard case .invalidRecord(_, _, let reason) = error else { return "\(error)" }
            return reason
        }
    }

    @Test("A summary tracks rounds, samples, machines and positions") func whatFollowsIsTracked() throws {
        let bytes = try Samples.ledger(
            Samples.spec(),
            Self.begin + [
                Samples.round(0, [(1, 0, [1, 2]), (2, 0, [3])]), Samples.round(1, [(1, 4, [1])]),
                .departure(Departure(machine: MachineID(2), unixSeconds: 5, reason: .left)),
            ])
        let summary = try Samples.summary(of: bytes)
        #expect(summary.nextRound == 2 && summary.samples == 4 && summary.nextMachine == MachineID(3))
        #expect(summary.machines.keys.sorted() == [MachineID(1)])
        #expect(summary.machines[MachineID(1)]?.nextSample == 5)
        #expect(summary.position.offset == UInt64(bytes.count) && summary.position.records == 7)
        #expect(summary.parameters.records == 6)
    }

    @Test("A record that breaks a rule of the run is refused, with the reason") func rulesOfARun() throws {
        let departed = LedgerRecord.departure(Departure(machine: MachineID(2), unixSeconds: 5, reason: .left))
        #expect(try reason([Samples.round(1, [(1, 0, [1])])]).contains("round 0 is next"))
        #expect(try reason([Samples.round(0, [(1, 0, [1, 2])]), Samples.round(1, [(1, 1, [1])])]).contains("committed twice"))
        #expect(try reason([Samples.round(0, [(3, 0, [1])])]).contains("not there"))
        #expect(try reason([departed, Samples.round(0, [(2, 0, [1])])]).contains("not there"))
        #expect(try reason([departed, Samples.admission(2)]).contains("given out again"))
        #expect(try reason([departed, departed]).contains("not there"))
        #expect(try reason([Samples.admission(3, trains: false), Samples.round(0, [(3, 0, [1])])]).contains("does not train"))
        #expect(try reason([.baseManifest(Samples.base)]).contains("second base"))
        #expect(try reason([.basis([1])]).contains("not the spec's"))
        #expect(try reason([.retraction(Retraction(machine: MachineID(1), rounds: 0..<1))]).contains("rounds to come"))
        #expect(try reason([.rewind(Rewind(round: 1, rateShift: 0))]).contains("round to come"))
        #expect(try reason([.end(RunEnd(unixSeconds: 1)), Samples.admission(3)]).contains("may follow the end"))
        #expect(try reason([Samples.round(0, [(1, 0, [1, 2])]), Samples.round(1, [(1, 2, [1])])]) == "accepted")
    }

    @Test("Since format 3, a retraction can be taken back, and a run that has ended can be resumed")
    func takenBack() throws {
        let round = Samples.round(0, [(1, 0, [1, 2])])
        let retraction = LedgerRecord.retraction(Retraction(machine: MachineID(1), rounds: 0..<1))
        let restoration = LedgerRecord.restoration(Restoration(machine: MachineID(1), rounds: 0..<1))
        var summary = try Samples.summary(of: try Samples.ledger(Samples.spec(), Self.begin + [round]))
        #expect(summary.holdsBytes(of: MachineID(1), in: 0..<1) && !summary.holdsRetracted(of: MachineID(1), in: 0..<1))
        _ = try summary.append(retraction)
        #expect(!summary.holdsBytes(of: MachineID(1), in: 0..<1) && summary.holdsRetracted(of: MachineID(1), in: 0..<1))
        _ = try summary.append(restoration)
        #expect(summary.holdsBytes(of: MachineID(1), in: 0..<1) && !summary.holdsRetracted(of: MachineID(1), in: 0..<1))
        _ = try summary.append(.end(RunEnd(unixSeconds: 1)))
        _ = try summary.append(retraction)
        _ = try summary.append(.rewind(Rewind(round: 0, rateShift: 0)))
        #expect(!summary.isEnded && summary.effectiveRounds == 0 && summary.nextRound == 1)
        // Earlier formats allow neither.
        for records in [[retraction, restoration], [.end(RunEnd(unixSeconds: 1)), .rewind(Rewind(round: 0, rateShift: 0))]] {
            #expect(throws: LedgerError.self) { try Samples.summary(of: Samples.ledger(Samples.spec(), Self.begin + [round] + records, format: 2)) }
        }
    }

    @Test("Since format 4, an admission says in which precision the machine computes", arguments: Precision.allCases, Precision.allCases)
    func precision(samples: Precision, hiddenStates: Precision) throws {
        func admission(_ precision: ComputePrecision?) -> LedgerRecord {
            .admission(
                Admission(
                    machine: MachineID(1), unixSeconds: 1, trains: true, evaluates: false, name: "m", session: Samples.session(1).fingerprint,
                    precision: precision))
        }
        let precision = ComputePrecision(samples: samples, hiddenStates: hiddenStates)
        let records = [.baseManifest(Samples.base), admission(precision)]
        let bytes = try Samples.ledger(Samples.spec(), records)
        #expect(try Samples.entries(of: bytes).last?.record == records.last)
        #expect(try Samples.summary(of: bytes).machines[MachineID(1)]?.admission.precision == precision)
        #expect(throws: LedgerError.self) { try Samples.summary(of: Samples.ledger(Samples.spec(), records, format: 3)) }
        // An admission that does not say it has the bytes that it had before.
        let silent = try Samples.ledger(Samples.spec(), [.baseManifest(Samples.base), admission(nil)], format: 3)
        #expect(try Samples.summary(of: silent).machines[MachineID(1)]?.admission.precision == nil)
        // Each record has one encoding: nothing is said of the precision unless all is said.
        var payload = admission(precision).payload()
        let flags = 1 + 8
        payload[flags] = 1 | 8
        #expect(throws: WireError.self) { try LedgerRecord(kind: LedgerRecord.Kind.admission.rawValue, payload: payload) }
        payload[flags] = 32
        #expect(throws: WireError.self) { try LedgerRecord(kind: LedgerRecord.Kind.admission.rawValue, payload: payload) }
    }

    @Test("A round that breaks a rule changes nothing, whichever contribution breaks it and in whatever order they come")
    func wholeOrNotAtAll() throws {
        var summary = try Samples.summary(of: try Samples.ledger(Samples.spec(), Self.begin + [Samples.round(0, [(1, 0, [1, 2]), (2, 0, [3])])]))
        let before = summary
        for contributions in [
            [(1, 2, [1]), (2, 0, [1])], [(1, 2, [1]), (3, 0, [1])], [(1, 2, [1, 2]), (1, 3, [1])], [(1, 3, [1]), (1, 2, [1, 2])],
        ] as [[(UInt32, UInt32, [Int8])]] {
            #expect(throws: LedgerSummary.RuleBroken.self) { try summary.append(Samples.round(1, contributions)) }
            #expect(summary.machines == before.machines && summary.position == before.position && summary.samples == before.samples)
        }
        _ = try summary.append(Samples.round(1, [(2, 1, [4]), (1, 4, [1]), (1, 2, [1, 2])]))
        #expect(summary.machines.mapValues(\.nextSample) == [MachineID(1): 5, MachineID(2): 2])
    }

    @Test("A spec that is not canonical, or has a field that this version does not know, is refused")
    func specs() throws {
        let spec = Samples.spec()
        let canonical = String(decoding: try spec.canonicalBytes(), as: UTF8.self)
        #expect(!canonical.contains(" ") && !canonical.contains("\\/"))
        #expect(try RunSpec(canonicalBytes: Array(canonical.utf8)) == spec)
        for other in [
            canonical + " ", canonical.replacing("{\"digestEvery\"", with: "{\"aNewField\":1,\"digestEvery\""),
            canonical.replacing("\"rounds\":10", with: "\"rounds\":1e1"), canonical.replacing("\"rounds\":10", with: "\"rounds\":0"),
            canonical.replacing("\"rounds\":10,", with: ""), canonical.replacing("\"version\":1", with: "\"version\":2"), "", "[]", "{",
        ] {
            #expect(throws: RunSpecError.self, "\(other)") { try RunSpec(canonicalBytes: Array(other.utf8)) }
        }
    }
}
