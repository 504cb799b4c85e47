/// A config.json with typed access; every error names file and key.
package struct ConfigurationFile {
    package let path: String
    package let json: JSON

    /// Creates a configuration without reading a file.
    package init(path: String, json: JSON) {
        self.path = path
        self.json = json
    }

    package init(path: String) throws(ModelError) {
        self.path = path
        json = try JSON.read(path, limit: 16 << 20)
        guard json.members != nil else { throw ModelError(.malformed, file: path, "is no JSON object") }
    }

    /// Returns the first of these keys that is present; nil if all are missing or null.
    package func integer(_ keys: String...) throws(ModelError) -> Int? { try integer(keys) }

    private func integer(_ keys: [String]) throws(ModelError) -> Int? {
        for key in keys {
            guard let value = present(key) else { continue }
            guard let integer = value.integer else { throw ModelError(.malformed, file: path, subject: key, "is not an integer") }
            return integer
        }
        return nil
    }

    /// Returns the first of these keys, since families use different names. Throws if none is present.
    package func required(_ keys: String...) throws(ModelError) -> Int {
        guard let value = try integer(keys) else { throw ModelError(.malformed, file: path, subject: keys[0], "is missing") }
        return value
    }

    package func double(_ key: String) throws(ModelError) -> Double? {
        guard let value = present(key) else { return nil }
        guard let double = value.double else { throw ModelError(.malformed, file: path, subject: key, "is not a number") }
        return double
    }

    package func bool(_ key: String) throws(ModelError) -> Bool? {
        guard let value = present(key) else { return nil }
        guard let bool = value.bool else { throw ModelError(.malformed, file: path, subject: key, "is not true or false") }
        return bool
    }

    package func string(_ key: String) throws(ModelError) -> String? {
        guard let value = present(key) else { return nil }
        guard let string = value.string else { throw ModelError(.malformed, file: path, subject: key, "is not a string") }
        return string
    }

    /// Returns the token ids of a key that holds one id or a list of them.
    package func tokens(_ key: String) throws(ModelError) -> [Int32] {
        guard let value = present(key) else { return [] }
        var tokens: [Int32] = []
        for value in value.array ?? [value] {
            guard let token = value.integer.flatMap(Int32.init(exactly:)) else {
                throw ModelError(.malformed, file: path, subject: key, "is no token id and no list of them")
            }
            tokens.append(token)
        }
        return tokens
    }

    /// Refuses a setting that this program would silently ignore.
    package func require(_ key: String, oneOf accepted: [JSON]) throws(ModelError) {
        guard let value = present(key), !accepted.contains(value) else { return }
        throw ModelError(
            .unsupported, file: path, subject: key, "is \(value.text(indent: 0)), which is not supported",
            remedy: "supported: \(accepted.map { $0.text(indent: 0) }.joined(separator: ", "))")
    }

    package func present(_ key: String) -> JSON? {
        guard let value = json[key], !value.isNull else { return nil }
        return value
    }
}
