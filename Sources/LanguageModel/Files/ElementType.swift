import Kernels

/// How a tensor's elements are stored. The raw values are ggml's type numbers.
public enum ElementType: Int32, Hashable, Sendable, CaseIterable {
    case f32 = 0
    case f16 = 1
    case q4_0 = 2
    case q4_1 = 3
    case q5_0 = 6
    case q5_1 = 7
    case q8_0 = 8
    case q4_K = 12
    case q5_K = 13
    case q6_K = 14
    case bf16 = 30

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
        case .q4_K: "Q4_K"
        case .q5_K: "Q5_K"
        case .q6_K: "Q6_K"
        }
    }
}
