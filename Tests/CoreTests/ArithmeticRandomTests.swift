import Core
import Kernels
import Testing

@Suite struct ArithmeticRandomTests {
    /// Random123's known-answer vectors of philox4x32-10 (kat_vectors).
    @Test(
        "Philox gives the known answers",
        arguments: [
            ([0, 0, 0, 0], [0, 0], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            (
                [0xffff_ffff, 0xffff_ffff, 0xffff_ffff, 0xffff_ffff], [0xffff_ffff, 0xffff_ffff],
                [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
            ),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
            ),
        ] as [([UInt32], [UInt32], [UInt32])])
    func philoxKnownAnswers(counter: [UInt32], key: [UInt32], answer: [UInt32]) {
        var output = [UInt32](repeating: 0, count: 4)
        ob_philox(counter, key, &output)
        #expect(output == answer)
    }

    @Test("SHA-256 and CRC-32C give the known answers") func hashKnownAnswers() {
        #expect(Digest.sha256([]).description == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        #expect(
            Digest.sha256(Array("abc".utf8)).description
                == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        // 56 bytes, so that the length needs a block of its own.
        #expect(
            Digest.sha256(Array("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq".utf8)).description
                == "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1")
        let millionA = [UInt8](repeating: UInt8(ascii: "a"), count: 1_000_000)
        #expect(
            Digest.sha256(millionA).description == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
        #expect(CRC32C.checksum(Array("123456789".utf8)) == 0xe306_9283)
        #expect(CRC32C.checksum([UInt8](repeating: 0, count: 32)) == 0x8a91_36aa)
        #expect(CRC32C.checksum([UInt8](repeating: 0xff, count: 32)) == 0x62a8_ab43)
    }

    @Test("Data cut into any pieces give the same hash, and so do the portable functions") func hashesInPieces() {
        var random = SystemRandomNumberGenerator()
        let bytes = (0..<1000).map { _ in UInt8.random(in: 0...255, using: &random) }
        for cut in 0...200 {
            var hash = SHA256()
            hash.update(Array(bytes[..<cut]))
            hash.update(Array(bytes[cut..<(2 * cut)]))
            hash.update(Array(bytes[(2 * cut)...]))
            #expect(hash.finalize() == Digest.sha256(bytes))
            let first = CRC32C.checksum(Array(bytes[..<cut]))
            #expect(CRC32C.checksum(Array(bytes[cut...]), after: first) == CRC32C.checksum(bytes))
            #expect(ob_crc32c_portable(0, bytes, cut) == first)
        }
        var state = [UInt32](0..<8)
        var portable = state
        ob_sha256_blocks(&state, bytes, 15)
        ob_sha256_blocks_portable(&portable, bytes, 15)
        #expect(state == portable)
    }
}
