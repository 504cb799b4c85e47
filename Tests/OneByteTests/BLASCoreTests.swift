import OneByte
import Testing

@Suite struct BLASCoreTests {
    private static let avx512: Set = ["avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl"]

    @Test(
        arguments: [
            ("Prescott", avx512, "SkylakeX"), ("Prescott", ["avx2", "fma"], "Haswell"), ("Nehalem", ["avx512f", "avx2", "fma"], "Haswell"),
            ("Prescott", ["sse3"], nil), ("SkylakeX", avx512, nil), ("Haswell", avx512, nil), ("Zen", avx512, nil), ("Cooperlake", avx512, nil),
        ] as [(String, Set<String>, String?)])
    func onlyAnOldCoreOnANewProcessorIsReplaced(_ current: String, _ flags: Set<String>, _ expected: String?) {
        #expect(BLASCore.better(than: current, flags: flags) == expected)
    }
}
