import Foundation

/// A directory for a run's files that is removed with this object.
final class ScratchDirectory {
    let path: String

    /// - Parameter parent: an existing directory; its disk is then part of the measurement.
    init(in parent: String) throws {
        path = parent + "/onebyte-benchmark-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }
}
