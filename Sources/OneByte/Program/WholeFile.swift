import Core
import Foundation
import LanguageModel

/// Writes a file whole or not at all; what is there and is no regular file (a device, a pipe) is written into, not replaced.
///
/// - Throws: `ProcessFailure` that names the file.
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

/// All of a file.
///
/// - Throws: `ProcessFailure` that names the file and the system's reason.
func readWhole(_ path: String) throws(ProcessFailure) -> [UInt8] {
    do {
        let file = try MappedFile(path: path)
        return withExtendedLifetime(file) { Array(file.bytes) }
    } catch {
        throw ProcessFailure(ExitStatus(error), "\(error)")
    }
}
