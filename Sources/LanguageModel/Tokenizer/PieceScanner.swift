/// Hand-written scanners for the pre-tokenizers that most models use. Each gives the same pieces as its regular expression on every text,
/// several times as fast.
package enum PieceScanner: Hashable, Sendable {
    /// GPT-2: `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
    case gpt2
    /// SmolLM: each digit separately, then the GPT-2 pattern between digits.
    case smollm
    /// Llama 3 (cl100k): `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    case llama3
    /// Qwen 2: Llama 3's pattern with `\p{N}` in place of `\p{N}{1,3}`.
    case qwen2

    /// Calls `body` with the bytes of each piece, in order. Together the pieces are the whole range.
    ///
    /// - Parameters:
    ///   - text: valid UTF-8.
    ///   - range: the part to split; no piece depends on text outside it.
    package func forEachPiece(in text: UnsafeBufferPointer<UInt8>, _ range: Range<Int>, _ body: (Range<Int>) -> Void) {
        switch self {
        case .gpt2: Self.gpt2Pieces(text, range, body)
        case .smollm: Self.forEachStretch(text, range) { range, isDigit in isDigit ? body(range) : Self.gpt2Pieces(text, range, body) }
        case .llama3: Self.cl100kPieces(text, range, digits: 3, body)
        case .qwen2: Self.cl100kPieces(text, range, digits: 1, body)
        }
    }

    /// Returns the scanner that equals a `Split` pattern; nil if there is none.
    package init?(pattern: String) {
        switch pattern {
        case Self.llama3Pattern: self = .llama3
        case Self.qwen2Pattern: self = .qwen2
        default: return nil
        }
    }

    package static let llama3Pattern =
        #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
    package static let qwen2Pattern =
        #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#

    /// Returns the scalar that begins at a byte of valid UTF-8.
    static func scalar(_ text: UnsafeBufferPointer<UInt8>, _ position: Int) -> UInt32 {
        Scanner(text, position..<text.count).peek()?.value ?? 0
    }

    /// Calls `body` with each digit, and with each stretch between digits.
    private static func forEachStretch(_ text: UnsafeBufferPointer<UInt8>, _ range: Range<Int>, _ body: (Range<Int>, Bool) -> Void) {
        var scanner = Scanner(text, range)
        var start = range.lowerBound
        while let scalar = scanner.peek() {
            let at = scanner.position
            scanner.advance(scalar)
            guard UnicodeClass.isDigit(scalar.value) else { continue }
            if start < at { body(start..<at, false) }
            body(at..<scanner.position, true)
            start = scanner.position
        }
        if start < range.upperBound { body(start..<range.upperBound, false) }
    }

    private static func gpt2Pieces(_ text: UnsafeBufferPointer<UInt8>, _ range: Range<Int>, _ body: (Range<Int>) -> Void) {
        var scanner = Scanner(text, range)
        while let first = scanner.peek() {
            let start = scanner.position
            if !scanner.contraction(first, ignoringCase: false) {
                // ` ?` belongs to the run that follows it, if there is one.
                var head = first
                if first.value == 0x20 {
                    scanner.advance(first)
                    if let next = scanner.peek(), next.kind != .space { head = next } else { scanner.position = start }
                }
                if head.kind == .space { scanner.spaces() } else { scanner.run(of: head.kind) }
            }
            body(start..<scanner.position)
        }
    }

    private static func cl100kPieces(_ text: UnsafeBufferPointer<UInt8>, _ range: Range<Int>, digits: Int, _ body: (Range<Int>) -> Void) {
        var scanner = Scanner(text, range)
        while let first = scanner.peek() {
            let start = scanner.position
            scanner.cl100kPiece(first, digits: digits)
            body(start..<scanner.position)
        }
    }
}

/// A reader of the scalars in a stretch of valid UTF-8.
private struct Scanner {
    struct Scalar {
        let value: UInt32
        let length: Int
        var kind: UnicodeClass { UnicodeClass.of(value) }
    }

    let text: UnsafeBufferPointer<UInt8>
    let end: Int
    var position: Int

    init(_ text: UnsafeBufferPointer<UInt8>, _ range: Range<Int>) {
        self.text = text
        position = range.lowerBound
        end = range.upperBound
    }

    func peek() -> Scalar? {
        guard position < end else { return nil }
        let b0 = UInt32(text[position])
        if b0 < 0x80 { return Scalar(value: b0, length: 1) }
        func tail(_ i: Int) -> UInt32 { UInt32(text[position + i] & 0x3f) }
        if b0 < 0xe0 { return Scalar(value: (b0 & 0x1f) << 6 | tail(1), length: 2) }
        if b0 < 0xf0 { return Scalar(value: (b0 & 0x0f) << 12 | tail(1) << 6 | tail(2), length: 3) }
        return Scalar(value: (b0 & 0x07) << 18 | tail(1) << 12 | tail(2) << 6 | tail(3), length: 4)
    }

    mutating func advance(_ scalar: Scalar) { position += scalar.length }

    mutating func run(of kind: UnicodeClass) {
        while let scalar = peek(), scalar.kind == kind { advance(scalar) }
    }

    /// Matches `\s+(?!\S)|\s+` at a space: all spaces at the end of the text; elsewhere all but the last, or the only one.
    mutating func spaces() {
        var last = position
        let start = position
        while let scalar = peek(), scalar.kind == .space {
            last = position
            advance(scalar)
        }
        if position < end, last > start { position = last }
    }

    /// Matches `'s|'t|'re|'ve|'m|'ll|'d`; advances only on a match.
    mutating func contraction(_ first: Scalar, ignoringCase: Bool) -> Bool {
        guard first.value == 0x27 else { return false }
        let start = position
        func letter(_ scalar: Scalar?) -> UInt32 {
            guard let value = scalar?.value else { return 0 }
            guard ignoringCase else { return value }
            if value == 0x17f { return 0x73 }  // ſ is an s to a pattern that ignores case
            return (0x41...0x5a).contains(value) ? value + 0x20 : value
        }
        advance(first)
        guard let second = peek() else {
            position = start
            return false
        }
        advance(second)
        switch letter(second) {
        case 0x73, 0x74, 0x6d, 0x64: return true  // s t m d
        case 0x72, 0x76:  // re ve
            if let third = peek(), letter(third) == 0x65 {
                advance(third)
                return true
            }
        case 0x6c:  // ll
            if let third = peek(), letter(third) == 0x6c {
                advance(third)
                return true
            }
        default: break
        }
        position = start
        return false
    }

    mutating func cl100kPiece(_ first: Scalar, digits: Int) {
        if contraction(first, ignoringCase: true) { return }
        let start = position
        let isBreak = { (scalar: Scalar) in scalar.value == 0x0a || scalar.value == 0x0d }
        // [^\r\n\p{L}\p{N}]?\p{L}+
        if first.kind == .letter { return run(of: .letter) }
        if first.kind != .number, !isBreak(first) {
            advance(first)
            if let next = peek(), next.kind == .letter { return run(of: .letter) }
            position = start
        }
        // \p{N}{1,3}
        if first.kind == .number {
            var count = 0
            while count < digits, let scalar = peek(), scalar.kind == .number {
                advance(scalar)
                count += 1
            }
            return
        }
        // ` ?[^\s\p{L}\p{N}]+[\r\n]*`
        if first.value == 0x20 { advance(first) }
        if let next = peek(), next.kind == .other {
            run(of: .other)
            while let scalar = peek(), isBreak(scalar) { advance(scalar) }
            return
        }
        position = start
        // \s*[\r\n]+ : the spaces up to and including the last line break among them
        var lastBreak: Int?
        while let scalar = peek(), scalar.kind == .space {
            advance(scalar)
            if isBreak(scalar) { lastBreak = position }
        }
        position = lastBreak ?? start
        if lastBreak == nil { spaces() }
    }
}
