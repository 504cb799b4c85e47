// swift-tools-version: 6.2
import PackageDescription

/// One set of settings for every Swift target: Swift 6 language mode, and a warning is an error.
let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .treatAllWarnings(as: .error),
]

/// Tests are compiled fast. What they run a thousand times lies in targets of its own (`Simulator`, `TestSupport`), which are optimised.
let strictTests: [SwiftSetting] = strict + [.unsafeFlags(["-Onone"])]

/// A plain build leaves out what measures and what fuzzes, and their flags: `make bench`, `make bench-check` and `make fuzz` ask for it here.
let with = Context.environment["ONEBYTE_WITH"]
let isFuzzed = with == "fuzz"

let programDependencies: [Target.Dependency] = [
    "Core", "LanguageModel", "Signing", "Training", "Transport", "Coordinator", "Relay", "Worker",
    .product(name: "ArgumentParser", package: "swift-argument-parser"),
    .product(name: "FlyingFox", package: "FlyingFox"),
    .product(name: "FlyingSocks", package: "FlyingFox"),
    .product(name: "Logging", package: "swift-log"),
    .product(name: "Subprocess", package: "swift-subprocess"),
    .product(name: "SystemPackage", package: "swift-system"),
    .product(name: "TOMLKit", package: "TOMLKit"),
    .product(name: "UnixSignals", package: "swift-service-lifecycle"),
]
let programResources: [Resource] = [.embedInCode("Dashboard/page.html")]

/// The program. Its reader of run files is fuzzed, and only a library can be linked into another program.
let program: Target =
    isFuzzed
    ? .target(
        name: "OneByte", dependencies: programDependencies, resources: programResources,
        swiftSettings: strict + [.unsafeFlags(["-parse-as-library"])])
    : .executableTarget(name: "OneByte", dependencies: programDependencies, resources: programResources, swiftSettings: strict)

let package = Package(
    name: "onebyte",
    products: isFuzzed ? [] : [.executable(name: "onebyte", targets: ["OneByte"])],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/LebJe/TOMLKit", from: "0.6.0"),
        .package(url: "https://github.com/swiftlang/swift-subprocess", from: "1.0.2"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        // Subprocess speaks in its file descriptors and paths.
        .package(url: "https://github.com/apple/swift-system", from: "1.6.1"),
        // The dashboard's HTTP server; it depends on nothing else.
        .package(url: "https://github.com/swhitty/FlyingFox", from: "0.27.1"),
    ],
    targets: [
        // The integer kernels decide the parameters, so nothing may fuse or reorder behind our back;
        // they are optimised in debug builds too, where the tests would crawl otherwise.
        .target(name: "Kernels", cSettings: [.unsafeFlags(["-O3", "-ffp-contract=off"])]),
        .target(name: "Core", dependencies: ["Kernels"], swiftSettings: strict),

        // libzmq.pc drags in flags that SwiftPM refuses (-isystem …/mit-krb5); the header is on the default path.
        .systemLibrary(name: "CZeroMQ", providers: [.apt(["libzmq3-dev"])]),
        .systemLibrary(name: "COpenBLAS", pkgConfig: "openblas", providers: [.apt(["libopenblas-dev"])]),

        // Signatures of ledgers; Debian's libzmq3-dev depends on libsodium-dev.
        .systemLibrary(name: "CSodium", providers: [.apt(["libsodium-dev"])]),
        .target(name: "Signing", dependencies: ["Core", "CSodium"], swiftSettings: strict),

        .target(name: "LanguageModel", dependencies: ["Core", "Kernels", "COpenBLAS"], swiftSettings: strict),
        .target(name: "Training", dependencies: ["Core", "Kernels", "LanguageModel"], swiftSettings: strict),
        .target(name: "Transport", dependencies: ["Core", "CZeroMQ"], swiftSettings: strict),
        .target(
            name: "Coordinator",
            dependencies: ["Core", "Transport", .product(name: "Logging", package: "swift-log")],
            swiftSettings: strict),
        .target(
            name: "Worker",
            dependencies: ["Core", "Transport", .product(name: "Logging", package: "swift-log")],
            swiftSettings: strict),
        .target(name: "Relay", dependencies: ["Core", "Transport"], swiftSettings: strict),
        program,

        .testTarget(
            name: "CoreTests", dependencies: ["Core", "Kernels", "Signing", "Simulator", "TestSupport"], resources: [.copy("Fixtures")],
            swiftSettings: strictTests),
        // A whole cluster in one process, for tests that run it a thousand times.
        .target(name: "Simulator", dependencies: ["Core", "TestSupport"], path: "Tests/Simulator", swiftSettings: strict),
        .testTarget(
            name: "LanguageModelTests", dependencies: ["LanguageModel", "Training", "Core", "Kernels"], resources: [.copy("Fixtures")],
            swiftSettings: strictTests),
        .target(name: "TestSupport", dependencies: ["CZeroMQ", "Core", "Transport"], path: "Tests/TestSupport", swiftSettings: strict),
        // The parsers, for libFuzzer and for its corpus as a test.
        .target(
            name: "FuzzTargets", dependencies: ["Core", "LanguageModel", "OneByte", "Training"], path: "Tests/FuzzTargets", swiftSettings: strict),
        .testTarget(name: "FuzzTests", dependencies: ["FuzzTargets", "TestSupport"], swiftSettings: strictTests),
        .testTarget(name: "TransportTests", dependencies: ["TestSupport", "Transport", "Coordinator", "Worker", "Core"], swiftSettings: strictTests),
        .testTarget(
            name: "OneByteTests",
            dependencies: [
                "OneByte", "Coordinator", "Core", "LanguageModel", "Signing", "TestSupport", "Training", "Transport",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Subprocess", package: "swift-subprocess"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            exclude: ["Fixtures"], swiftSettings: strictTests),
        // A coordinator or a worker as a process of its own, with a trainer that needs no model: what the cluster tests kill.
        .executableTarget(
            name: "ClusterNode", dependencies: ["Core", "Coordinator", "Relay", "TestSupport", "Transport", "Worker"], path: "Tests/ClusterNode",
            swiftSettings: strict),
        .testTarget(
            name: "ClusterTests",
            dependencies: ["ClusterNode", "TestSupport", "Core", "LanguageModel", "Training", "Coordinator", "Relay", "Transport", "Worker"],
            swiftSettings: strictTests),
    ],
    cxxLanguageStandard: .cxx17
)

switch with {
case "benchmarks":
    let argumentParser: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
    package.targets += [
        // Rates of the integer kernels, variant by variant.
        .executableTarget(name: "KernelBenchmark", dependencies: ["Core", "Kernels"], path: "Benchmarks/KernelBenchmark", swiftSettings: strict),
        // What the matrix products cost.
        .target(name: "GemmMeter", dependencies: ["Kernels"], path: "Benchmarks/GemmMeter"),
        // Samples: their speed, their agreement, what they teach.
        .executableTarget(
            name: "EstimatorBenchmark", dependencies: ["Core", "GemmMeter", "Kernels", "LanguageModel", "Training", argumentParser],
            path: "Benchmarks/EstimatorBenchmark", swiftSettings: strict,
            // GemmMeter's products stand before those of Kernels.
            linkerSettings: [.unsafeFlags(["-Xlinker", "--wrap=ob_product", "-Xlinker", "--wrap=ob_gated_product"])]),
        // A coordinator and many workers without a model.
        .executableTarget(
            name: "ClusterBenchmark", dependencies: ["Core", "Coordinator", "TestSupport", "Transport", argumentParser],
            path: "Benchmarks/ClusterBenchmark", swiftSettings: strict),
    ]
case "fuzz":
    package.targets += [
        .executableTarget(
            name: "Fuzz", dependencies: ["FuzzTargets"], path: "Tests/Fuzz", exclude: ["corpus"],
            swiftSettings: strict + [.unsafeFlags(["-parse-as-library"])],
            // libFuzzer's archive has a main of its own; ours comes first.
            linkerSettings: [.unsafeFlags(["-use-ld=lld", "-Xlinker", "--allow-multiple-definition"])])
    ]
default: break
}
