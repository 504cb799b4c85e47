import Kernels

/// How a tensor's elements are stored. The raw values are ggml's type numbers, and above 999 those of types that GGUF does not have.
public enum ElementType: Int32, Hashable, Sendable, CaseIterable {
    case f32 = 0
    case f16 = 1
    case q4_0 = 2
    case q4_1 = 3
    case q5_0 = 6
    case q5_1 = 7
    case q8_0 = 8
    case q2_K = 10
    case q3_K = 11
    case q4_K = 12
    case q5_K = 13
    case q6_K = 14
    case iq4_NL = 20
    case iq4_XS = 23
    case bf16 = 30
    case mxfp4 = 39
    case f8E4M3 = 1000
    case f8E5M2 = 1001

    /// Types that GGUF files have.
    package static let gguf = allCases.filter { $0.rawValue < 1000 }

    /// Number of elements that share scales; 1 for the plain types.
    package var blockElements: Int { Int(ob_block_elements(rawValue)) }
    package var blockBytes: Int { Int(ob_block_bytes(rawValue)) }

    /// Returns the bytes of `count` elements; nil if `count` is no whole number of blocks or the product overflows.
    package func byteCount(of count: Int) -> Int? {
        guard count >= 0, count % blockElements == 0 else { return nil }
        let (bytes, overflow) = (count / blockElements).multipliedReportingOverflow(by: blockBytes)
        return overflow ? nil : bytes
    }
}

extension ElementType: CustomStringConvertible {
    /// The name as ggml and safetensors write it: `Q4_1`, `BF16`.
    public var description: String {
        switch self {
        case .f32: "F32"
        case .f16: "F16"
        case .bf16: "BF16"
        case .q4_0: "Q4_0"
        case .q4_1: "Q4_1"
        case .q5_0: "Q5_0"
        case .q5_1: "Q5_1"
        case .q8_0: "Q8_0"
        case .q2_K: "Q2_K"
        case .q3_K: "Q3_K"
        case .q4_K: "Q4_K"
        case .q5_K: "Q5_K"
        case .q6_K: "Q6_K"
        case .iq4_NL: "IQ4_NL"
        case .iq4_XS: "IQ4_XS"
        case .mxfp4: "MXFP4"
        case .f8E4M3: "F8_E4M3"
        case .f8E5M2: "F8_E5M2"
        }
    }
}
