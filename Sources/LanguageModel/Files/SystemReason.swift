import Foundation

/// Returns the system's reason for a failure in plain words, such as "No space left on device". Only this function turns Foundation's
/// errors into text; their own descriptions name domains and numbers.
package func systemReason(of error: any Error) -> String {
    if let code = posixCode(of: error as NSError) { return String(cString: strerror(code)) }
    // All other errors have readable descriptions.
    return error is CocoaError || type(of: error) == NSError.self ? "the system gives no reason" : "\(error)"
}

private func posixCode(of error: NSError) -> Int32? {
    if error.domain == NSPOSIXErrorDomain { return Int32(exactly: error.code) }
    if let cause = error.userInfo[NSUnderlyingErrorKey] as? NSError, let code = posixCode(of: cause) { return code }
    guard error.domain == NSCocoaErrorDomain else { return nil }
    return switch CocoaError.Code(rawValue: error.code) {
    case .fileNoSuchFile, .fileReadNoSuchFile: ENOENT
    case .fileReadNoPermission, .fileWriteNoPermission: EACCES
    case .fileWriteFileExists: EEXIST
    case .fileWriteOutOfSpace: ENOSPC
    case .fileWriteVolumeReadOnly: EROFS
    case .fileReadInvalidFileName, .fileWriteInvalidFileName: EINVAL
    case .fileReadTooLarge: EFBIG
    default: nil
    }
}
