import Foundation

/// What a dashboard shows, asked for anew at each request.
struct DashboardSource: Sendable {
    let status: @Sendable () -> RunStatus
    let history: @Sendable () -> RunHistory
    /// Why the process is not ready yet; nil: it is.
    let unreadiness: @Sendable () -> String?

    /// One update of the page: the status, and the points from a number on.
    struct Update: Codable, Sendable {
        let status: RunStatus
        let points: [RunHistory.Point]
    }

    /// - Returns: the update as JSON on one line, and the number from which on the next one has points.
    func update(from number: Int) -> (json: String, next: Int) {
        let history = history()
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let bytes = (try? encoder.encode(Update(status: status(), points: history.points(from: number)))) ?? Data("null".utf8)
        return (String(decoding: bytes, as: UTF8.self), history.end)
    }

}

/// The page on which a run is seen: one file, which loads nothing else.
package enum RunPage {
    /// It asks the server that it came from for what it shows.
    package static let live = String(decoding: PackageResources.page_html, as: UTF8.self)

    /// All that is known stands in it, so that it can be mailed.
    package static func whole(_ status: RunStatus, _ history: RunHistory) -> String {
        let source = DashboardSource(status: { status }, history: { history }, unreadiness: { nil })
        // Within a script element nothing may look like its end.
        let data = source.update(from: 0).json.replacing("<", with: "\\u003c")
        return live.replacing("/*DATA*/null", with: data, maxReplacements: 1)
    }
}
