import ArgumentParser
import Transport

struct KeygenCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "keygen",
        abstract: "Make a key pair for encrypted connections (CURVE).",
        discussion: """
            The secret goes to the file (only its owner can read it), the public key beside it and to standard output:

              onebyte keygen coordinator.key
              onebyte keygen worker-3.key && cat worker-3.key.pub
            """)

    @Argument(help: ArgumentHelp("Where the secret goes; nothing is ever overwritten.", valueName: "file")) var path: String

    func run() throws {
        let keys = try KeyPair.generate()
        try keys.write(to: path)
        standardOutput.write("\(keys.publicKey)")
    }
}
