import ArgumentParser
import Core
import Glibc

@main
enum Program {
    static func main() async {
        // When a reader of our output goes away, write(2) then returns an error instead of ending the process.
        signal(SIGPIPE, SIG_IGN)
        // The same for a file that grows beyond the shell's limit (ulimit -f).
        signal(SIGXFSZ, SIG_IGN)
        MappingFault.installHandler()
        BLASCore.restartWithBetterCore()
        ParentWatch.beginIfAsked()
        noteUnknownKernels()
        do {
            var command = try parsed(Array(CommandLine.arguments.dropFirst()))
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
            if LineStream.lost != 0 {
                throw ProcessFailure(.inputOutput, "the results could not be written: \(String(cString: strerror(LineStream.lost)))")
            }
        } catch {
            exit(report(error))
        }
    }

    /// Reports requested kernels that this machine does not have, instead of silently using others.
    private static func noteUnknownKernels() {
        guard let wanted = getenv("ONEBYTE_KERNELS").map({ String(cString: $0) }), !kernelVariants.contains(wanted) else { return }
        standardError.write(
            "note: ONEBYTE_KERNELS names \(wanted), which is not among those of this machine (\(kernelVariants.joined(separator: ", "))); \(kernelVariant) are used"
        )
    }

    /// Parses the command line.
    ///
    /// - Throws: the parser's error, or a better one if the table of settings knows what was meant.
    private static func parsed(_ arguments: [String]) throws -> any ParsableCommand {
        let command: any ParsableCommand
        do {
            command = try OneByte.parseAsRoot(arguments)
        } catch {
            guard !OneByte.exitCode(for: error).isSuccess else { throw error }
            if let better = CommandLineCheck.unknownCommand(in: arguments) ?? CommandLineCheck.renamedFlag(in: arguments) { throw better }
            throw error
        }
        if let error = CommandLineCheck.repeatedFlag(in: arguments) { throw error }
        return command
    }

    /// Writes one clear error as the last line on standard error, and returns the exit status.
    private static func report(_ error: any Error) -> Int32 {
        if let stop = error as? StopSignal { return ExitStatus(stop).rawValue }
        // The argument parser itself handles help, --version, wrong flags and `ExitCode`.
        if isParsers(error) {
            let message = OneByte.fullMessage(for: error)
            let status = OneByte.exitCode(for: error)
            if !message.isEmpty { (status.isSuccess ? standardOutput : standardError).write(message) }
            return status.rawValue
        }
        standardError.write("error: \(shortened(describe(error)))")
        return ExitStatus(error).rawValue
    }

    private static func isParsers(_ error: any Error) -> Bool {
        if error is ValidationError || error is CleanExit || error is ExitCode { return true }
        // The parser's wrapper around these is not public; all of this program's own errors are.
        return String(reflecting: type(of: error)).hasPrefix("ArgumentParser.")
    }
}

package struct OneByte: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "onebyte",
        abstract: "Fine-tune a language model across machines that share almost no bandwidth: one byte for each direction tried.",
        discussion: joined(
            """
            A local cluster, from data to a better model in one command:

              onebyte cluster --model SmolLM2.gguf \\
                --train-file reviews.jsonl --eval-file held-out.jsonl \\
                --template '{text} It was' \\
                --label '0= terrible' --label '1= great'

            The same across hosts: one coordinator, which needs no model and no data, and workers that have both.

              onebyte keygen coordinator.key
              onebyte coordinator --config run.toml --directory runs/reviews \\
                --listen tcp://0.0.0.0:5151 --key coordinator.key
              onebyte worker --coordinator 'tcp://coordinator:5151?key=…' \\
                --model SmolLM2.gguf --train-file my-reviews.jsonl

            Logs go to standard error, results to standard output. `onebyte help <subcommand>` shows examples for each.
            """),
        version: Version.description,
        subcommands: [
            ClusterCommand.self, CoordinatorCommand.self, WorkerCommand.self, RelayCommand.self, StatusCommand.self, TopCommand.self,
            ReportCommand.self,
            EvaluateCommand.self, PredictCommand.self, GenerateCommand.self,
            ExportCommand.self, PrepareCommand.self, LedgerCommand.self, ModelCommand.self, DataCommand.self, KeygenCommand.self,
            SettingsCommand.self, DoctorCommand.self,
        ])

    package init() {}
}
