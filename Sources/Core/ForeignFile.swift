/// A file that is not what it should be, and the commands that make the right file of it. They overwrite nothing, and work from the directory
/// in which the path was given.
package struct ForeignFile {
    package let path: String
    /// Whether the file is looked for under this very name.
    private let keepsName: Bool
    private let isTaken: (String) -> Bool

    /// - Parameter isTaken: whether a file has this path.
    package init(path: String, keepsName: Bool = false, isTaken: @escaping (String) -> Bool) {
        self.path = path
        self.keepsName = keepsName
        self.isTaken = isTaken
    }

    private var name: String { path.utf8.split(separator: UInt8(ascii: "/")).last.map { String(Substring($0)) } ?? path }

    /// The path up to and including its last slash.
    private var directory: String {
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "" }
        return String(path[...slash])
    }

    /// Returns a path beside the file that is free: `name`, or a longer name that begins with `mark`.
    package func free(_ name: String, mark: String) -> String {
        let names = [name, "\(mark)-\(name)"] + (2..<1000).map { "\(mark)-\($0)-\(name)" }
        return directory + (names.first { !isTaken(directory + $0) } ?? names[1])
    }

    /// Returns the problem and a command that unpacks the file, whatever it is called: most unpackers insist on their own file ending.
    func unpacking(_ format: String, _ command: String, _ ending: String) -> (String, String) {
        let problem = "is compressed with \(format)"
        if keepsName {
            let packed = ForeignFormat.quoted(free(name + ending, mark: "packed"))
            let file = ForeignFormat.quoted(path)
            return (problem, "unpack it first: mv \(file) \(packed) && \(command) < \(packed) > \(file)")
        }
        let plain = name.hasSuffix(ending) ? String(name.dropLast(ending.count)) : "unpacked-\(name)"
        return (problem, "unpack it first: \(command) < \(ForeignFormat.quoted(path)) > \(ForeignFormat.quoted(free(plain, mark: "unpacked")))")
    }

    /// Returns the problem of a text in another encoding, and a command that converts it.
    func converting(_ encoding: String) -> (String, String) {
        ("is \(encoding) text; UTF-8 is read", "convert it: \(convertingText(from: encoding))")
    }

    /// Returns a command that writes the file as UTF-8.
    package func convertingText(from encoding: String) -> String {
        if keepsName {
            let other = ForeignFormat.quoted(free("\(encoding.lowercased())-\(name)", mark: "old"))
            let file = ForeignFormat.quoted(path)
            return "mv \(file) \(other) && iconv -f \(encoding) -t UTF-8 < \(other) > \(file)"
        }
        return "iconv -f \(encoding) -t UTF-8 < \(ForeignFormat.quoted(path)) > \(ForeignFormat.quoted(free("utf8-\(name)", mark: "new")))"
    }

    /// The path of the JSON lines that are made of the file, such as `reviews.jsonl` for `reviews.json`.
    package var linesPath: String {
        let stem = name.utf8.lastIndex(of: UInt8(ascii: ".")).flatMap { $0 > name.utf8.startIndex ? String(name.utf8[..<$0]) : nil } ?? name
        return free("\(stem).jsonl", mark: "lines")
    }

    /// Returns a command that writes a table of columns as JSON lines.
    ///
    /// - Parameter format: what pandas calls the format, such as `parquet`.
    func convertingTable(_ format: String) -> String {
        let program = "import sys, pandas; pandas.read_\(format)(sys.argv[1]).to_json(sys.argv[2], orient='records', lines=True)"
        return "python3 -c \(ForeignFormat.quoted(program)) \(ForeignFormat.quoted(path)) \(ForeignFormat.quoted(linesPath))"
    }

    /// The command that fetches the file of a Git LFS pointer. Git matches a plain name in every directory.
    var fetchingFromLFS: String {
        let place = directory.isEmpty ? "" : "-C \(ForeignFormat.quoted(directory)) "
        return "git \(place)lfs pull --include \(ForeignFormat.quoted(name))"
    }
}
