import ArgumentParser
import Signing
import Transport

struct KeygenCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "keygen",
        abstract: "Make a key pair: for encrypted connections (CURVE), or for signatures (Ed25519).",
        discussion: joined(
            """
            The secret goes to the file (only its owner can read it), the public key beside it and to standard output:

              onebyte keygen coordinator.key
              onebyte keygen worker-3.key && cat worker-3.key.pub

            A key that signs a ledger or countersigns digests; others trust its public half
            (`onebyte ledger verify --signers`):

              onebyte keygen --signing alice.key
            """))

    @Argument(help: ArgumentHelp("Where the secret goes; nothing is ever overwritten.", valueName: "file")) var path: String
    @Flag(help: "A signing key, not one for connections.") var signing = false

    func run() throws {
        if signing {
            let key = SigningKey()
            try key.write(to: path)
            return standardOutput.write("\(key.publicKey)")
        }
        let keys = try KeyPair.generate()
        try keys.write(to: path)
        standardOutput.write("\(keys.publicKey)")
    }
}
