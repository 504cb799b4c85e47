import Training

/// The text from which a run's basis is made.
package enum PublicTextChoice: Hashable, Sendable {
    /// The text that comes with the program.
    case sentences
    case none
    case file(String)

    static let shipped = "shipped"
    static let nothing = "none"

    /// - Parameter setting: the value of `basis-text`.
    init(_ setting: String?) {
        self =
            switch setting {
            case Self.shipped: .sentences
            case nil, Self.nothing: .none
            case .some(let path): .file(path)
            }
    }

    /// Returns the texts; empty for `none`.
    ///
    /// - Throws: `DataError` for a file that can't be read.
    func texts() throws -> [String] {
        switch self {
        case .sentences: PublicText.sentences
        case .none: []
        case .file(let path): try DataFile.readTexts(path)
        }
    }
}

extension PublicTextChoice: CustomStringConvertible {
    package var description: String {
        switch self {
        case .sentences: "the sentences that come with the program"
        case .none: "random tokens, without public text"
        case .file(let path): path
        }
    }
}

extension Settings {
    package var publicText: PublicTextChoice { PublicTextChoice(optionalText(.basisText)) }
}
