// swift-tools-version: 6.2
import PackageDescription

let package = Package(
    name: "benchmarks",
    dependencies: [.package(name: "onebyte", path: "..")],
    targets: [
        .executableTarget(
            name: "KernelBenchmark", dependencies: [.product(name: "Core", package: "onebyte")],
            swiftSettings: [.swiftLanguageMode(.v6)])
    ]
)
