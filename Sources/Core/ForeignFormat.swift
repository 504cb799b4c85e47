/// A well-known format that a file has by mistake, recognised by its first bytes: what it is, and how to make the right file of it.
public struct ForeignFormat: Hashable, Sendable {
    /// What the file is, such as "is compressed with gzip".
    public let problem: String
    /// How to make the right file of it.
    public let remedy: String

    /// Number of bytes at a file's beginning that are enough to recognise the format.
    public static let bytesNeeded = 512

    /// Returns nil if the format is not recognised.
    ///
    /// - Parameters:
    ///   - start: the first `bytesNeeded` bytes of a file, or all of a shorter one.
    ///   - path: the file's path, which the remedy repeats.
    ///   - mayBeMarkup: true for a corpus of plain lines, which may well begin as a web page does.
    ///   - keepsName: true for a file that is looked for under this very name, as a model's config.json is.
    ///   - isTaken: whether a file has this path, so that the remedy overwrites nothing.
    public init?(start: [UInt8], path: String, mayBeMarkup: Bool = false, keepsName: Bool = false, isTaken: @escaping (String) -> Bool) {
        let place = ForeignFile(path: path, keepsName: keepsName, isTaken: isTaken)
        guard let found = Self.binary(start, place) ?? Self.text(start, place, mayBeMarkup) else { return nil }
        (problem, remedy) = found
    }

    private static func binary(_ start: [UInt8], _ place: ForeignFile) -> (String, String)? {
        func begins(_ bytes: [UInt8]) -> Bool { start.starts(with: bytes) }
        func begins(_ text: String, _ more: [UInt8] = []) -> Bool { start.starts(with: Array(text.utf8) + more) }
        let file = quoted(place.path)
        if begins([0x1F, 0x8B]) { return place.unpacking("gzip", "gzip -dc", ".gz") }
        if begins([0x28, 0xB5, 0x2F, 0xFD]) { return place.unpacking("Zstandard", "zstd -dc", ".zst") }
        if begins([0xFD, 0x37, 0x7A, 0x58, 0x5A, 0x00]) { return place.unpacking("xz", "xz -dc", ".xz") }
        if begins("BZh"), start.count > 9, start[4..<10].elementsEqual([0x31, 0x41, 0x59, 0x26, 0x53, 0x59]) {
            return place.unpacking("bzip2", "bzip2 -dc", ".bz2")
        }
        if begins([0x04, 0x22, 0x4D, 0x18]) { return place.unpacking("LZ4", "lz4 -dc", ".lz4") }
        if begins("PK", [0x03, 0x04]) {
            return (
                "is a ZIP archive, as .zip, .xlsx, .npz and PyTorch's checkpoints are", "unpack it, or save its contents in the format that is wanted"
            )
        }
        if begins([0x37, 0x7A, 0xBC, 0xAF, 0x27, 0x1C]) { return ("is a 7z archive", "unpack it first: 7z x \(file)") }
        if start.count > 262, start[257..<262].elementsEqual("ustar".utf8) { return ("is a tar archive", "unpack it first: tar xkf \(file)") }
        if begins("PAR1"), start.count > 4, start[4] < 0x20 || start[4] > 0x7E {
            return ("is a Parquet file", "write it as JSON lines: \(place.convertingTable("parquet"))")
        }
        if begins("ARROW1", [0]) { return ("is an Arrow file", "write it as JSON lines: \(place.convertingTable("feather"))") }
        if begins([0x89, 0x48, 0x44, 0x46]) { return ("is an HDF5 file", "save the model as safetensors, with transformers' save_pretrained") }
        if begins([0x93] + Array("NUMPY".utf8)) { return ("is a NumPy array", "save its contents in the format that is wanted") }
        if start.count > 2, start[0] == 0x80, (2...5).contains(start[1]) {
            return (
                "is a Python pickle, which can run any program when it is read", "save the model as safetensors, with transformers' save_pretrained"
            )
        }
        if begins("GGUF"), start.count > 7, start[4] < 0x20 { return ("is a GGUF file", "give its path as a model") }
        for old in ["ggml", "ggjt", "lmgg", "tjgg"] where begins(old) {
            return ("is a GGML file, which GGUF has replaced", "convert it with a current llama.cpp")
        }
        if begins("SQLite format 3", [0]) { return ("is an SQLite database", "write the table as JSON lines") }
        if begins("%PDF-") { return ("is a PDF", "save its contents in the format that is wanted") }
        if start.count >= 64, start.allSatisfy({ $0 == 0 }) {
            return ("begins with nothing but zeros, as a file whose contents were never written", "obtain it again")
        }
        return nil
    }

    /// Returns `text` quoted where a shell would not take it for one word.
    package static func quoted(_ text: String) -> String {
        let isPlain = text.utf8.allSatisfy { byte in
            (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte) || "/._-+:=@%,".utf8.contains(byte)
        }
        return isPlain ? text : "'" + String(decoding: text.utf8.flatMap { $0 == 0x27 ? Array(#"'\''"#.utf8) : [$0] }, as: UTF8.self) + "'"
    }

    private static func text(_ start: [UInt8], _ place: ForeignFile, _ mayBeMarkup: Bool) -> (String, String)? {
        if start.starts(with: "version https://git-lfs.github.com/spec/".utf8) {
            return ("is a pointer of Git LFS, not the file itself", "fetch the file: \(place.fetchingFromLFS)")
        }
        if start.starts(with: [0xFF, 0xFE, 0x00, 0x00]) || start.starts(with: [0x00, 0x00, 0xFE, 0xFF]) { return place.converting("UTF-32") }
        if start.starts(with: [0xFF, 0xFE]) || start.starts(with: [0xFE, 0xFF]) { return place.converting("UTF-16") }
        if start.count >= 4 {
            // UTF-16 without a byte-order mark: ASCII letters, each with a zero byte at its side.
            let (even, odd) = (start[0] == 0 && start[2] == 0, start[1] == 0 && start[3] == 0)
            if odd, !even, start[0] < 0x80, start[2] < 0x80, start[2] != 0 { return place.converting("UTF-16LE") }
            if even, !odd, start[1] < 0x80, start[3] < 0x80, start[1] != 0 { return place.converting("UTF-16BE") }
        }
        guard !mayBeMarkup else { return nil }
        let visible = start.drop { $0 == 0x20 || $0 == 0x09 || $0 == 0x0A || $0 == 0x0D }.prefix(16)
        let lower = String(decoding: visible, as: UTF8.self).lowercased()
        if lower.hasPrefix("<!doctype html") || lower.hasPrefix("<html") {
            return ("is a web page (HTML), as a download that was refused leaves", "download the file itself")
        }
        if lower.hasPrefix("<?xml") { return ("is XML", "save its contents in the format that is wanted") }
        return nil
    }
}
