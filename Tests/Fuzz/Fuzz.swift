import Foundation
import FuzzTargets

/// libFuzzer as a library (llvm.org/docs/LibFuzzer.html): the package manager links every executable by its own name for `main`.
@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
    _ argumentCount: UnsafeMutablePointer<CInt>, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
    _ testOneInput: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

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

@_cdecl("Fuzz_main")
public func main(_ count: CInt, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> CInt {
    var count = count
    var arguments = arguments
    return runDriver(&count, &arguments) { start, count in
        target.run([UInt8](UnsafeBufferPointer(start: start, count: count)), directory: directory)
        return 0
    }
}
