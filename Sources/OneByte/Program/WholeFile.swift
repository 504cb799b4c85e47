import Core
import Foundation

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

/// What the system says of a file, without Foundation's words around it.
func systemReason(of error: any Error) -> String {
    let cause = (error as NSError).userInfo[NSUnderlyingErrorKey] as? NSError
    if let cause, cause.domain == NSPOSIXErrorDomain { return String(cString: strerror(Int32(cause.code))) }
    return error.localizedDescription
}
