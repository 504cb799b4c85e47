import Foundation
import Testing
import Transport

@Suite struct FileLockTests {
    private static let table = """
        1: FLOCK  ADVISORY  WRITE 11268 fe:00:16223073 0 EOF
        2: POSIX  ADVISORY  WRITE 9 fe:00:16223074 0 EOF
        3: FLOCK  ADVISORY  WRITE 9420 fe:00:16220321 0 EOF
        3: -> FLOCK  ADVISORY  WRITE 10175 fe:00:16220321 0 EOF
        4: FLOCK  ADVISORY  WRITE 77 08:01:16220321 0 EOF

        """

    @Test(
        "The kernel's table names the holder of a file's lock, not those who wait for it",
        arguments: [
            (0xfe00, 16_223_073, 11268), (0xfe00, 16_220_321, 9420), (0x801, 16_220_321, 77), (0xfe00, 16_223_074, nil), (0xfe00, 5, nil),
            // The device may differ, as with overlay file systems. The file's number is enough if it is in the table only once.
            (0x2b, 16_223_073, 11268), (0x2b, 16_220_321, nil),
        ] as [(UInt64, UInt64, Int32?)])
    func holder(_ device: UInt64, _ inode: UInt64, _ expected: Int32?) {
        #expect(LockHolder.process(in: Self.table, device: device, inode: inode) == expected)
    }

    @Test("A lock has one holder at a time, and the next one when the holder is gone") func oneHolderAtATimeAndTheNextWhenItIsGone() throws {
        let path = FileManager.default.temporaryDirectory.appending(path: "onebyte-lock-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        do {
            let first = try FileLock(path)
            #expect(throws: FileLock.Failure.held(by: getpid())) { try FileLock(path) }
            withExtendedLifetime(first) {}
        }
        #expect(throws: Never.self) { try FileLock(path) }
        #expect(throws: FileLock.Failure.self) { try FileLock("/proc/nowhere/lock") }
    }
}
