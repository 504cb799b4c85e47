import Foundation

/// A change of a text before it is split into pieces. Each stretch between added tokens is normalised separately.
package indirect enum Normalizer: Sendable {
    case sequence([Normalizer])
    case unicode(UnicodeForm)
    case lowercase
    case strip(left: Bool, right: Bool)
    /// Prepends a text unless the input is empty.
    case prepend(String)
    case replace(Literal, with: String)
    case replacePattern(source: String, Pattern, with: String)

    package enum UnicodeForm: String, Hashable, Sendable { case nfc = "NFC", nfd = "NFD", nfkc = "NFKC", nfkd = "NFKD" }

    /// The text to find, matched literally.
    package typealias Literal = String

    /// Whether it leaves ASCII text unchanged.
    package var keepsASCII: Bool {
        switch self {
        case .sequence(let steps): steps.allSatisfy(\.keepsASCII)
        case .unicode: true
        default: false
        }
    }

    package func apply(_ text: AlignedText) -> AlignedText {
        switch self {
        case .sequence(let steps): return steps.reduce(text) { $1.apply($0) }
        case .unicode(let form): return text.bytes.contains { $0 >= 0x80 } ? byCharacters(text) { form.apply($0) } : text
        case .lowercase: return byScalars(text) { $0.properties.lowercaseMapping }
        case .strip(let left, let right): return strip(text, left, right)
        case .prepend(let prefix): return text.bytes.isEmpty ? text : text.prefixed(by: Array(prefix.utf8))
        case .replace(let literal, let content):
            let literal = Array(literal.utf8)
            return text.replacing({ Self.forEachOccurrence(of: literal, in: $0, $1) }, with: Array(content.utf8))
        case .replacePattern(_, let pattern, let content):
            return text.replacing({ pattern.forEachMatch(in: $0, 0..<$0.count, $1) }, with: Array(content.utf8))
        }
    }

    static func forEachOccurrence(of literal: [UInt8], in text: UnsafeBufferPointer<UInt8>, _ body: (Range<Int>) -> Void) {
        guard let first = literal.first else { return }
        var i = 0
        while i + literal.count <= text.count {
            if text[i] == first, text[i..<i + literal.count].elementsEqual(literal) {
                body(i..<i + literal.count)
                i += literal.count
            } else {
                i += 1
            }
        }
    }

    /// Maps each character separately. Composition and decomposition never cross the boundary of a grapheme cluster.
    private func byCharacters(_ text: AlignedText, _ map: (String) -> String) -> AlignedText {
        var out = AlignedText()
        var start = 0
        for character in String(decoding: text.bytes, as: UTF8.self) {
            let count = character.utf8.count
            let range = start..<start + count
            start += count
            if count == 1 {
                out.append(text, range)
                continue
            }
            let mapped = Array(map(String(character)).utf8)
            if mapped.elementsEqual(character.utf8) {
                out.append(text, range)
                continue
            }
            let origin = text.origin(of: range)
            out.append(mapped, from: Int32(origin.lowerBound), to: Int32(origin.upperBound))
        }
        return out
    }

    private func byScalars(_ text: AlignedText, _ map: (Unicode.Scalar) -> String) -> AlignedText {
        var out = AlignedText()
        var start = 0
        for scalar in String(decoding: text.bytes, as: UTF8.self).unicodeScalars {
            let range = start..<start + UTF8.width(scalar)
            start = range.upperBound
            let origin = text.origin(of: range)
            out.append(map(scalar).utf8, from: Int32(origin.lowerBound), to: Int32(origin.upperBound))
        }
        return out
    }

    private func strip(_ text: AlignedText, _ left: Bool, _ right: Bool) -> AlignedText {
        let scalars = Array(String(decoding: text.bytes, as: UTF8.self).unicodeScalars)
        let first = left ? scalars.prefix { $0.properties.isWhitespace } : []
        let last = right && first.count < scalars.count ? Array(scalars.reversed().prefix { $0.properties.isWhitespace }) : []
        var out = AlignedText()
        out.append(text, first.reduce(0) { $0 + UTF8.width($1) }..<text.bytes.count - last.reduce(0) { $0 + UTF8.width($1) })
        return out
    }
}

extension Normalizer.UnicodeForm {
    func apply(_ text: String) -> String {
        switch self {
        case .nfc: text.precomposedStringWithCanonicalMapping
        case .nfd: text.decomposedStringWithCanonicalMapping
        case .nfkc: text.precomposedStringWithCompatibilityMapping
        case .nfkd: text.decomposedStringWithCompatibilityMapping
        }
    }
}
