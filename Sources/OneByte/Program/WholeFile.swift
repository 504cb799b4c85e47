import Core
import Foundation
import LanguageModel

/// Writes a file whole or not at all. If the path is not a regular file (a device, a pipe), it is written into and not replaced.
///
/// - Throws: `ProcessFailure` with the file's name.
func writeWhole(_ bytes: Data, to path: String) throws(ProcessFailure) {
    var isSpecial = false
    if let type = try? FileManager.default.attributesOfItem(atPath: URL(filePath: path).resolvingSymlinksInPath().path)[.type] as? FileAttributeType {
        isSpecial = type != .typeRegular && type != .typeDirectory
    }
    do {
        try bytes.write(to: URL(filePath: path), options: isSpecial ? [] : .atomic)
    } catch {
        throw ProcessFailure(.cannotCreate, "\(path): can't be written: \(systemReason(of: error))")
    }
}

/// Reads a whole file.
///
/// - Throws: `ProcessFailure` with the file's name and the system's reason.
func readWhole(_ path: String) throws(ProcessFailure) -> [UInt8] {
    do {
        let file = try MappedFile(path: path)
        return withExtendedLifetime(file) { Array(file.bytes) }
    } catch {
        throw ProcessFailure(ExitStatus(error), "\(error)")
    }
}
