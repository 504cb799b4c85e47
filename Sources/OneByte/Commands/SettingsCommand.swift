import ArgumentParser

struct SettingsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "settings",
        abstract: "List every setting of a run: type, range, default, meaning.",
        discussion: joined(
            """
            As Markdown, which reads well as it is:

              onebyte settings | less

            The page in docs/reference is made so:

              onebyte settings > docs/reference/settings.md

            The settings of a run at hand, and where each comes from:

              onebyte cluster --config run.toml --print-config
            """))

    func run() { standardOutput.writeRaw(SettingsReference.markdown) }
}
