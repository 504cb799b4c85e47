import Foundation

/// Where a run's files lie, gone with it.
final class ScratchDirectory {
    let path: String

    /// - Parameter parent: an existing directory, whose disk is then measured too.
    init(in parent: String) throws {
        path = parent + "/onebyte-benchmark-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }
}
