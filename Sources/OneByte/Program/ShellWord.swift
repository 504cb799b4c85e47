/// A word as a shell reads it back, in quotes where it must be.
func shellWord(_ text: String) -> String {
    let plain = text.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
        default: "/._-+:=@%,".utf8.contains(byte)
        }
    }
    if plain, !text.isEmpty { return text }
    // By bytes: to Swift a quote and an accent behind it are one character, to a shell they are two.
    let quoted = text.utf8.flatMap { $0 == UInt8(ascii: "'") ? Array(#"'\''"#.utf8) : [$0] }
    return "'" + String(decoding: quoted, as: UTF8.self) + "'"
}
