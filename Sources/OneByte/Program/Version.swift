import ArgumentParser
import LanguageModel

enum Version {
    static let number = "0.1.0"
    static var description: String { "onebyte \(number) (OpenBLAS core: \(BLASCore.name))" }
}
