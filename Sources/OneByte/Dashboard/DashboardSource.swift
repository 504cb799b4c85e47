import Foundation

/// The state that a dashboard shows, read again at each request.
struct DashboardSource: Sendable {
    let status: @Sendable () -> RunStatus
    let history: @Sendable () -> RunHistory
    /// The reason why the process is not ready; nil if it is ready.
    let unreadiness: @Sendable () -> String?

    /// Returns one update of the page: the status, and the history's points from a number on.
    struct Update: Codable, Sendable {
        let status: RunStatus
        let points: [RunHistory.Point]
    }

    /// - Returns: the update as JSON on one line, and the number at which the next update's points begin.
    func update(from number: Int) -> (json: String, next: Int) {
        let history = history()
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let bytes = (try? encoder.encode(Update(status: status(), points: history.points(from: number)))) ?? Data("null".utf8)
        return (String(decoding: bytes, as: UTF8.self), history.end)
    }

}

/// The page that shows a run: one file, which loads nothing else.
package enum RunPage {
    /// The live page, which gets its data from its own server.
    package static let live = String(decoding: PackageResources.page_html, as: UTF8.self)

    /// The page of a report. It holds all data itself, so that it can be mailed.
    package static func whole(_ status: RunStatus, _ history: RunHistory) -> String {
        let source = DashboardSource(status: { status }, history: { history }, unreadiness: { nil })
        // Nothing within a script element may look like its end.
        let data = source.update(from: 0).json.replacing("<", with: "\\u003c")
        return live.replacing("/*DATA*/null", with: data, maxReplacements: 1)
    }
}
