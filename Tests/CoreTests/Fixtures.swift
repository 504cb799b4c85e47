import Foundation
import Simulator

extension Samples {
    static func fixture(_ name: String) throws -> [UInt8] {
        [UInt8](try Data(contentsOf: fixtureURL(name)))
    }

    static func fixtureURL(_ name: String) -> URL {
        Bundle.module.bundleURL.appending(path: "Fixtures").appending(path: name)
    }
}
