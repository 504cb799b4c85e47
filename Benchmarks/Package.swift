// swift-tools-version: 6.2
import PackageDescription

// What is measured, apart from what is shipped. Build with
//
//     swift build -c release --package-path Benchmarks --scratch-path .build/benchmarks

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .treatAllWarnings(as: .error),
]

func onebyte(_ names: String...) -> [Target.Dependency] { names.map { .product(name: $0, package: "onebyte") } }
let argumentParser: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")

let package = Package(
    name: "benchmarks",
    dependencies: [
        .package(name: "onebyte", path: ".."),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    ],
    targets: [
        // Rates of the integer kernels, variant by variant.
        .executableTarget(name: "KernelBenchmark", dependencies: onebyte("Core", "Kernels"), path: "KernelBenchmark", swiftSettings: strict),
        // What the matrix products cost.
        .target(name: "GemmMeter", dependencies: onebyte("Kernels"), path: "GemmMeter"),
        // Samples: their speed, their agreement, what they teach.
        .executableTarget(
            name: "EstimatorBenchmark",
            dependencies: onebyte("Core", "Kernels", "LanguageModel", "Training") + ["GemmMeter", argumentParser],
            path: "EstimatorBenchmark", swiftSettings: strict,
            // GemmMeter's products stand before those of Kernels.
            linkerSettings: [.unsafeFlags(["-Xlinker", "--wrap=ob_product", "-Xlinker", "--wrap=ob_gated_product"])]),
        // A coordinator and many workers without a model.
        .executableTarget(
            name: "ClusterBenchmark",
            dependencies: onebyte("Core", "Coordinator", "Transport", "TestSupport") + [argumentParser],
            path: "ClusterBenchmark", swiftSettings: strict),
    ]
)
