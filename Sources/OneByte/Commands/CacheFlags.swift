import ArgumentParser
import Foundation

/// Where a worker keeps its examples' hidden states.
struct CacheFlags: ParsableArguments {
    @Option(help: ArgumentHelp(
        "Hidden states to keep in memory, such as 512MB; more go to a file under $XDG_CACHE_HOME/onebyte (~/.cache/onebyte).", valueName: "size"))
    var cacheMemory: ByteSize = .standardCacheMemory
    @Option(help: ArgumentHelp("Keep all hidden states in files here instead, for a restart or later runs on the same data.", valueName: "directory"))
    var cacheDirectory: String?

    var memoryBytes: Int { cacheDirectory == nil ? cacheMemory.bytes : 0 }

    /// Nil where there is no home either, as of some services; all is then kept in memory.
    var directory: String? {
        if let cacheDirectory { return cacheDirectory }
        let environment = ProcessInfo.processInfo.environment
        // Relative paths in it are to be ignored (XDG Base Directory Specification).
        if let path = environment["XDG_CACHE_HOME"], path.hasPrefix("/") { return path + "/onebyte" }
        return environment["HOME"].flatMap { $0.isEmpty ? nil : $0 + "/.cache/onebyte" }
    }
}

extension ByteSize: ExpressibleByArgument {
    package init?(argument: String) { self.init(argument) }
    package var defaultValueDescription: String { "2GiB" }
    static let standardCacheMemory = ByteSize(bytes: 2 << 30)
}
