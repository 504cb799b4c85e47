import Core
import Foundation
import Glibc
import LanguageModel
import Training
import Transport

/// Checks of what every host needs, whichever side it is on.
enum HostChecks {
    /// The first second of 2024. An earlier clock was never set.
    private static let earliestClock: Double = 1_704_067_200
    private static let bytesWanted: UInt64 = 1 << 30
    private static let bytesNeeded: UInt64 = 64 << 20

    static func clock(coordinator: UInt64?) -> Finding {
        let now = Date().timeIntervalSince1970
        guard now > earliestClock else {
            return .failed(
                "clock", "this host's clock says \(Date())", .configuration,
                remedy: "set it: records say when machines came and went, and certificates and logs need it too")
        }
        guard let coordinator else { return .ok("clock", "\(Date().formatted(.iso8601))") }
        let skew = now - Double(coordinator)
        guard abs(skew) < 30 else {
            return .warning(
                "clock", "this host's clock is \(Int(abs(skew))) s \(skew > 0 ? "ahead of" : "behind") the coordinator's",
                remedy: "the run does not depend on it, but logs of both sides are hard to compare; have both set by NTP")
        }
        return .ok("clock", "within \(Int(abs(skew).rounded(.up))) s of the coordinator's")
    }

    /// Checks a directory that this process will write to, or its nearest existing parent.
    static func directory(_ path: String, step: String) -> Finding {
        var existing = URL(filePath: path).standardizedFileURL.path
        while !FileManager.default.fileExists(atPath: existing), existing != "/" {
            existing = URL(filePath: existing).deletingLastPathComponent().path
        }
        var isDirectory: ObjCBool = false
        _ = FileManager.default.fileExists(atPath: existing, isDirectory: &isDirectory)
        guard isDirectory.boolValue else {
            return .failed(step, "\(existing) is no directory", .cannotCreate, remedy: "choose another place")
        }
        guard canWrite(existing) else {
            return .failed(
                step, "\(existing) can't be written by user \(NSUserName())", .cannotCreate,
                remedy: "choose another place, or give this user the directory: chown \(NSUserName()) \(shellWord(existing))")
        }
        var status = statvfs()
        guard statvfs(existing, &status) == 0 else { return .ok(step, "\(path) can be written") }
        let free = UInt64(status.f_bavail) * UInt64(status.f_frsize)
        let text = "\(path): \(free >> 20) MiB free"
        if free < bytesNeeded {
            return .failed(step, text, .inputOutput, remedy: "make room: the ledger and the cache of examples have none")
        }
        return free < bytesWanted
            ? .warning(step, text, remedy: "the cache of examples may need more; a run goes on where a disk is full, but stands still")
            : .ok(step, text)
    }

    /// Tests writing by doing it: a root user may do what permissions deny, and a read-only file system denies what they allow.
    private static func canWrite(_ directory: String) -> Bool {
        let path = "\(directory)/.onebyte-doctor-\(getpid())"
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { return false }
        close(descriptor)
        unlink(path)
        return true
    }

    static func kernels() -> Finding {
        let rate = MatrixLibrary.measureRate()
        let text =
            "\(rate), float kernels \(MatrixLibrary.floatKernels), integer kernels \(kernelVariant), OpenBLAS core \(BLASCore.name), \(Processors.count) processors"
        return rate.isFarFromPeak
            ? .warning("kernels", text, remedy: "that is far from what the processor can do: are other programs running, or is ONEBYTE_KERNELS set?")
            : .ok("kernels", text)
    }

    static func data(_ path: String, step: String) -> Finding {
        do throws(DataError) {
            return .ok(step, "\(path): \(try DataFile.read(path).count) examples")
        } catch {
            return .failed(step, error.description, ExitStatus(error), remedy: "every line is one JSON object; mend or leave out what is not")
        }
    }

    static func key(_ path: String) -> (Finding, KeyPair?) {
        do throws(TransportError) {
            let keys = try KeyPair(contentsOf: path)
            return (.ok("key", "\(path), public key \(keys.publicKey)"), keys)
        } catch {
            return (.failed("key", error.message, error.status, remedy: "`onebyte keygen FILE` makes one; only its owner may read it"), nil)
        }
    }
}
