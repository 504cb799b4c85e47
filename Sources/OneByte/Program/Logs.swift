import ArgumentParser
import Foundation
import Logging

/// Format of the logs, which go to standard error; results go to standard output.
package enum LogFormat: String, CaseIterable, ExpressibleByArgument, Sendable {
    case text, json
}

/// Flags of every long-running command.
struct LogOptions: ParsableArguments {
    @Option(help: ArgumentHelp("How much to log.", valueName: "trace|debug|info|warning|error"))
    var logLevel: Logger.Level = .info

    @Option(help: "Logs as text for people or as JSON lines for programs.")
    var logFormat: LogFormat = .text

    /// Sets up logging. Call it once, before the first logger is made.
    func bootstrap() {
        let level = logLevel
        let format = logFormat
        LoggingSystem.bootstrap { label in LineLogHandler(label: label, format: format, logLevel: level) }
    }
}

extension Logger.Level: @retroactive ExpressibleByArgument {}

/// Writes one line per event.
struct LineLogHandler: LogHandler {
    let label: String
    let format: LogFormat
    var logLevel: Logger.Level
    var metadata: Logger.Metadata = [:]

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        standardError.write(line(for: event, at: Date()))
    }

    func line(for event: LogEvent, at time: Date) -> String {
        let values = metadata.merging(event.metadata ?? [:]) { $1 }.sorted { $0.key < $1.key }
        let stamp = time.formatted(.iso8601.year().month().day().timeZone(separator: .omitted).time(includingFractionalSeconds: true))
        switch format {
        case .text:
            let details = values.map { " \($0.key)=\(printable("\($0.value)", onOneLine: true))" }.joined()
            return "\(stamp) \(event.level) \(printable(label, onOneLine: true)): \(shortened("\(event.message)"))\(details)"
        case .json:
            var object = ["time": stamp, "level": "\(event.level)", "label": label, "message": "\(event.message)"]
            for (key, value) in values where object[key] == nil { object[key] = "\(value)" }
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
            return (try? encoder.encode(object)).map { String(decoding: $0, as: UTF8.self) } ?? "{}"
        }
    }
}
