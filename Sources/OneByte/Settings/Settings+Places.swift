import Foundation

extension Settings {
    /// Returns a note for each relative path of a run file that would name another file from the run file's own directory. Paths are relative to
    /// where the program is started, and nobody should train on another file of the same name without knowing.
    ///
    /// - Parameter keys: the settings with paths that the command reads.
    package func otherPlaces(_ keys: [SettingKey] = [.model, .trainFile, .evalFile, .validationFile, .generalFile, .basisText]) -> [String] {
        keys.compactMap { key in
            guard case .file(let file, _)? = source(key), let path = optionalText(key), !path.hasPrefix("/") else { return nil }
            let directory = (file as NSString).deletingLastPathComponent
            let beside = directory.isEmpty ? path : "\(directory)/\(path)"
            guard FileManager.default.fileExists(atPath: beside) else { return nil }
            let (here, there) = (URL(filePath: path).resolvingSymlinksInPath(), URL(filePath: beside).resolvingSymlinksInPath())
            guard here.standardizedFileURL.path != there.standardizedFileURL.path else { return nil }
            return
                "\(key.rawValue) is \(path) from where the program is started, and not \(beside) (\(source(key)?.description ?? ""))"
        }
    }
}
