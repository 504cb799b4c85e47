/// GPT-2's printable stand-ins for bytes, in which tokenizer files write vocabularies and merges.
package enum ByteAlphabet {
    /// The scalar that stands for each byte: the byte itself if it is printable Latin-1, else the next free scalar from U+0100.
    package static let scalars: [Unicode.Scalar] = {
        let printable = [0x21...0x7e, 0xa1...0xac, 0xae...0xff]
        var next: UInt32 = 0x100
        return (0..<256).map { byte in
            if printable.contains(where: { $0.contains(byte) }) { return Unicode.Scalar(UInt8(byte)) }
            defer { next += 1 }
            return Unicode.Scalar(next) ?? " "
        }
    }()

    private static let bytes: [UInt32: UInt8] = Dictionary(
        uniqueKeysWithValues: scalars.enumerated().map { ($1.value, UInt8($0)) })

    /// Returns the bytes of a token's text; nil if a scalar is not in the alphabet, as in an added token, which is written literally.
    package static func bytes(of text: some Sequence<Unicode.Scalar>) -> [UInt8]? {
        var out: [UInt8] = []
        for scalar in text {
            guard let byte = bytes[scalar.value] else { return nil }
            out.append(byte)
        }
        return out
    }

    package static func text(of bytes: some Sequence<UInt8>) -> String {
        var text = String.UnicodeScalarView()
        for byte in bytes { text.append(scalars[Int(byte)]) }
        return String(text)
    }
}
