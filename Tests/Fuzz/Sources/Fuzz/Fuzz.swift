import FuzzTargets
import Foundation

/// The parser that this process fuzzes: ONEBYTE_FUZZ names it.
private let target: FuzzTarget = {
    guard let target = FuzzTarget(rawValue: ProcessInfo.processInfo.environment["ONEBYTE_FUZZ"] ?? "") else {
        FileHandle.standardError.write(
            Data("ONEBYTE_FUZZ must name a parser: \(FuzzTarget.allCases.map(\.rawValue).joined(separator: ", "))\n".utf8))
        exit(2)
    }
    return target
}()

private let directory: String = {
    let path = FileManager.default.temporaryDirectory.path + "/onebyte-fuzz-\(getpid())"
    try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    return path
}()

/// The entry point of libFuzzer (llvm.org/docs/LibFuzzer.html).
@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    target.run([UInt8](UnsafeBufferPointer(start: start, count: count)), directory: directory)
    return 0
}
