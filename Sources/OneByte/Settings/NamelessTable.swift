/// Finds what TOMLKit's parser would end the process for: it asserts, without a look, that a name follows the `[` of a table's header.
enum NamelessTable {
    /// Returns the line of the first header without a name, such as `[.task]`; nil if there is none. What else is wrong with the text is the parser's
    /// business, which stops at its first error.
    static func line(in text: String) -> Int? {
        let bytes = Array(text.utf8)
        var line = 1
        var place = bytes.starts(with: [0xef, 0xbb, 0xbf]) ? 3 : 0
        var isAtStart = true
        while place < bytes.count {
            let byte = bytes[place]
            switch byte {
            case UInt8(ascii: "\n"):
                line += 1
                isAtStart = true
                place += 1
                continue
            case UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "\r"):
                place += 1
                continue
            case UInt8(ascii: "#"):
                while place < bytes.count, bytes[place] != UInt8(ascii: "\n") { place += 1 }
                continue
            case UInt8(ascii: "\""), UInt8(ascii: "'"):
                let end = endOfString(bytes, from: place)
                line += bytes[place..<end].count { $0 == UInt8(ascii: "\n") }
                place = end
            case UInt8(ascii: "[") where isAtStart:
                if !isNamed(bytes, from: place + 1) { return line }
                place += 1
            default: place += 1
            }
            isAtStart = false
        }
        return nil
    }

    /// Whether a name follows a header's first bracket, or something that the parser refuses by itself.
    private static func isNamed(_ bytes: [UInt8], from start: Int) -> Bool {
        var place = start
        func skipBlanks() { while place < bytes.count, [UInt8(ascii: " "), UInt8(ascii: "\t")].contains(bytes[place]) { place += 1 } }
        let isArray = place < bytes.count && bytes[place] == UInt8(ascii: "[")
        if isArray { place += 1 }
        skipBlanks()
        guard place < bytes.count else { return true }
        switch bytes[place] {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"): return true
        case UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "\""), UInt8(ascii: "'"), UInt8(ascii: "]"): return true
        // Two brackets that are not next to each other.
        case UInt8(ascii: "["): return !isArray
        default: return false
        }
    }

    /// Returns the place behind a string that begins here; behind its line if that does not close it.
    private static func endOfString(_ bytes: [UInt8], from start: Int) -> Int {
        let quote = bytes[start]
        func isTriple(_ place: Int) -> Bool { place + 2 < bytes.count && bytes[place..<place + 3].allSatisfy { $0 == quote } }
        let isLong = isTriple(start)
        var place = start + (isLong ? 3 : 1)
        while place < bytes.count {
            if bytes[place] == UInt8(ascii: "\\"), quote == UInt8(ascii: "\"") {
                place += 2
            } else if isLong, isTriple(place) {
                place += 3
                // Up to two quotes may stand before the three that close the string.
                for _ in 0..<2 where place < bytes.count && bytes[place] == quote { place += 1 }
                return place
            } else if !isLong, bytes[place] == quote {
                return place + 1
            } else if !isLong, bytes[place] == UInt8(ascii: "\n") {
                return place
            } else {
                place += 1
            }
        }
        return bytes.count
    }
}
