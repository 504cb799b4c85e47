import Foundation
import Testing

/// Runs the scripts and units in deploy/ if this machine has what they need; a script that lacks something ends with 77. Scripts that start
/// daemons take a minute and run only with `ONEBYTE_DEPLOY_TESTS=1` (`make deploy-test`).
@Suite(.serialized) struct DeployTests {
    private static let directory = Binary.packageRoot.appending(path: "deploy/test")
    private static let skipped: Int32 = 77
    private static let slow: Set = ["hosts.sh", "slurm.sh"]
    private static let runsAll = ProcessInfo.processInfo.environment["ONEBYTE_DEPLOY_TESTS"] == "1"

    static let scripts: [String] = {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory.path)) ?? []
        return names.filter { $0.hasSuffix(".sh") && $0 != "lib.sh" }.sorted()
    }()

    @Test func eachWayHasItsTestAndItsPage() throws {
        let ways = ["container", "hosts", "kubernetes", "monitoring", "package", "slurm", "systemd"]
        #expect(Self.scripts == ways.map { $0 + ".sh" })
        let page = try String(contentsOf: Binary.packageRoot.appending(path: "deploy/README.md"), encoding: .utf8)
        for script in Self.scripts { #expect(page.contains("](\(script.dropLast(3))/README.md)"), "\(script)") }
    }

    @Test(arguments: scripts.filter { runsAll || !slow.contains($0) })
    func aWayToDeployWorks(_ script: String) async throws {
        let found = try await Binary.run(
            ["--kill-after=10", "300", "/bin/bash", Self.directory.appending(path: script).path], program: "/usr/bin/timeout",
            environment: ["ONEBYTE_PROGRAM": Binary.path])
        if found.status == Self.skipped {
            print("\(script): \(found.errors.split(separator: "\n").last ?? "")")
        } else {
            #expect(found.status == 0, "\(script):\n\(found.output.suffix(2000))\n\(found.errors.suffix(3000))")
        }
    }
}
