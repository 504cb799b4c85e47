import ArgumentParser
import Core
import Foundation

/// What the argument parser does not notice or can't explain.
package enum CommandLineCheck {
    /// A word in the place of a command that none has.
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

    /// A flag that is unknown to the command but known to us: one that was renamed, that another command has, or that other programs have.
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

    /// A flag that is given twice and holds one value: the parser would keep the last in silence.
    package static func repeatedFlag(in arguments: [String]) -> SettingsError? {
        let repeatable = Set(SettingKey.allCases.filter { $0.setting.type.isRepeatable }.map(\.flag))
        var seen: Set<String> = []
        for name in optionNames(arguments) where !repeatable.contains(name) && !seen.insert(name).inserted {
            return .usage("\(name) is given twice; leave one out")
        }
        return nil
    }

    /// The options that are given. An option's value in an argument of its own never begins with two dashes; what follows a lone `--`
    /// is no option.
    private static func optionNames(_ arguments: [String]) -> [String] {
        arguments.prefix { $0 != "--" }.compactMap { argument in
            // The one option with a short name.
            if argument == "-o" { return "--output" }
            return argument.hasPrefix("--") ? String(Substring(argument.utf8.prefix { $0 != UInt8(ascii: "=") })) : nil
        }
    }

    // MARK: What commands have

    private static func command(of arguments: [String]) -> (command: any ParsableCommand.Type, path: [String]) {
        var found: (command: any ParsableCommand.Type, path: [String]) = (OneByte.self, ["onebyte"])
        for word in arguments {
            guard let next = found.command.configuration.subcommands.first(where: { $0._commandName == word }) else { break }
            found = (next, found.path + [word])
        }
        return found
    }

    /// Every command that does something.
    private static var leaves: [(command: any ParsableCommand.Type, path: [String])] {
        func below(_ command: any ParsableCommand.Type, _ path: [String]) -> [(command: any ParsableCommand.Type, path: [String])] {
            let children = command.configuration.subcommands
            return children.isEmpty ? [(command, path)] : children.flatMap { below($0, path + [$0._commandName]) }
        }
        return below(OneByte.self, ["onebyte"])
    }

    /// The flags of a command, as its help lists them.
    private static func flags(of command: any ParsableCommand.Type) -> [String] {
        let help = OneByte.helpMessage(for: command, columns: 400)
        // Behind the examples, a line of the list begins with the flag; its explanation may name others.
        let list = help.components(separatedBy: "\nUSAGE:").last ?? help
        return list.split(separator: "\n").compactMap { line in
            let words = line.drop { $0 == " " }.split(separator: " ", maxSplits: 2)
            guard line.hasPrefix("  ") else { return nil }
            return words.prefix(2).map { $0.last == "," ? $0.dropLast() : $0 }.first { $0.hasPrefix("--") }.map(String.init)
        }
    }
}
