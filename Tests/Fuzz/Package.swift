// swift-tools-version: 6.2
import PackageDescription

// Coverage-guided fuzzing of every parser, by libFuzzer from the Swift toolchain: `make fuzz`.

let package = Package(
    name: "fuzz",
    dependencies: [.package(name: "onebyte", path: "../..")],
    targets: [
        .executableTarget(
            name: "Fuzz", dependencies: [.product(name: "FuzzTargets", package: "onebyte")],
            swiftSettings: [.swiftLanguageMode(.v6), .unsafeFlags(["-parse-as-library"])])
    ]
)
