/// Returns a word in the form in which a shell reads it back, quoted if necessary.
func shellWord(_ text: String) -> String {
    let plain = text.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
        default: "/._-+:=@%,".utf8.contains(byte)
        }
    }
    if plain, !text.isEmpty { return text }
    // Works on bytes: Swift treats a quote and a combining accent after it as one character, a shell as two.
    let quoted = text.utf8.flatMap { $0 == UInt8(ascii: "'") ? Array(#"'\''"#.utf8) : [$0] }
    return "'" + String(decoding: quoted, as: UTF8.self) + "'"
}
