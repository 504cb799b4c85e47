import ArgumentParser
import Core
import Foundation

/// Checks for mistakes that the argument parser does not notice or can't explain.
package enum CommandLineCheck {
    /// Finds a word in the place of a command that no command has.
    package static func unknownCommand(in arguments: [String]) -> SettingsError? {
        var command: any ParsableCommand.Type = OneByte.self
        var path = ["onebyte"]
        for word in arguments {
            let subcommands = command.configuration.subcommands
            guard !subcommands.isEmpty, !word.hasPrefix("-"), word != "help" else { return nil }
            if let next = subcommands.first(where: { $0._commandName == word }) {
                command = next
                path.append(word)
                continue
            }
            let names = subcommands.map { $0._commandName }
            let there = "there is no `\((path + [word]).joined(separator: " "))`"
            if let near = nearestWord(to: word, in: names) { return .usage("\(there); did you mean `\((path + [near]).joined(separator: " "))`?") }
            let help = (["onebyte", "help"] + path.dropFirst()).joined(separator: " ")
            return .usage("\(there); \(path.joined(separator: " ")) has \(names.joined(separator: ", ")) (\(help))")
        }
        return nil
    }

    /// Finds a flag that the command does not have but that is known: renamed, belonging to another command, or used by other programs.
    package static func renamedFlag(in arguments: [String]) -> SettingsError? {
        let (type, path) = Self.command(of: arguments)
        let own = flags(of: type)
        for name in optionNames(arguments) where !own.contains(name) {
            let bare = String(name.dropFirst(2))
            switch SettingNames.meaning(of: bare) {
            case .retired(let remedy): return .usage("\(name) \(remedy)")
            case .former(let key): return .usage("\(name) is now \(key.flag)\(SettingNames.wordsChanged(of: key)); give \(key.flag)")
            case .likely(let key) where key.flag != name && own.contains(key.flag):
                return .usage("there is no \(name); did you mean \(key.flag)? (\(key.setting.help))")
            case .likely, nil: break
            }
            let others = SettingNames.otherFlags[bare.lowercased().replacing("_", with: "-")] ?? []
            if let other = others.first(where: own.contains) { return .usage("there is no \(name); did you mean \(other)?") }
            let havers = leaves.filter { flags(of: $0.command).contains(name) }.map { "`\($0.path.joined(separator: " "))`" }
            if !havers.isEmpty {
                return .usage(
                    "`\(path.joined(separator: " "))` has no \(name); \(havers.prefix(3).joined(separator: ", ")) \(havers.count == 1 ? "has" : "have")"
                )
            }
            if let near = nearestWord(to: name.lowercased().replacing("_", with: "-"), in: own) {
                return .usage("there is no \(name); did you mean \(near)?")
            }
        }
        return nil
    }

    /// Finds a flag for a single value that is given twice. The parser would silently keep the last.
    package static func repeatedFlag(in arguments: [String]) -> SettingsError? {
        let repeatable = Set(SettingKey.allCases.filter { $0.setting.type.isRepeatable }.map(\.flag))
        var seen: Set<String> = []
        for name in optionNames(arguments) where !repeatable.contains(name) && !seen.insert(name).inserted {
            return .usage("\(name) is given twice; leave one out")
        }
        return nil
    }

    /// Returns the names of the given options. An option's value in an argument of its own never begins with two dashes; arguments after a
    /// lone `--` are not options.
    private static func optionNames(_ arguments: [String]) -> [String] {
        arguments.prefix { $0 != "--" }.compactMap { argument in
            // This is the only option with a short name.
            if argument == "-o" { return "--output" }
            return argument.hasPrefix("--") ? String(Substring(argument.utf8.prefix { $0 != UInt8(ascii: "=") })) : nil
        }
    }

    // MARK: Commands and their flags

    private static func command(of arguments: [String]) -> (command: any ParsableCommand.Type, path: [String]) {
        var found: (command: any ParsableCommand.Type, path: [String]) = (OneByte.self, ["onebyte"])
        for word in arguments {
            guard let next = found.command.configuration.subcommands.first(where: { $0._commandName == word }) else { break }
            found = (next, found.path + [word])
        }
        return found
    }

    /// All commands without subcommands.
    private static var leaves: [(command: any ParsableCommand.Type, path: [String])] {
        func below(_ command: any ParsableCommand.Type, _ path: [String]) -> [(command: any ParsableCommand.Type, path: [String])] {
            let children = command.configuration.subcommands
            return children.isEmpty ? [(command, path)] : children.flatMap { below($0, path + [$0._commandName]) }
        }
        return below(OneByte.self, ["onebyte"])
    }

    /// Returns the flags of a command, as its help lists them.
    private static func flags(of command: any ParsableCommand.Type) -> [String] {
        let help = OneByte.helpMessage(for: command, columns: 400)
        // After the examples, each line of the list begins with its flag; the explanation may name others.
        let list = help.components(separatedBy: "\nUSAGE:").last ?? help
        return list.split(separator: "\n").compactMap { line in
            let words = line.drop { $0 == " " }.split(separator: " ", maxSplits: 2)
            guard line.hasPrefix("  ") else { return nil }
            return words.prefix(2).map { $0.last == "," ? $0.dropLast() : $0 }.first { $0.hasPrefix("--") }.map(String.init)
        }
    }
}
