// swift-tools-version: 6.2
import PackageDescription

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
]

/// Tests are run once: to optimise them, where the release is tested, takes longer than they run. What they test is optimised.
/// A module's files are compiled side by side, as there is nothing to inline.
let tests: [SwiftSetting] =
    strict + [
        .unsafeFlags(
            ["-Onone", "-no-whole-module-optimization", "-enable-batch-mode", "-num-threads", "0"], .when(configuration: .release))
    ]

/// What the loader has bound is read-only from then on: nobody who can write to memory leads a call elsewhere. Not in libraries that
/// other packages build upon, which may have no flags of their own.
let bound: [LinkerSetting] = [.unsafeFlags(["-Xlinker", "-z", "-Xlinker", "now"])]

/// The program's function takes the place of GnuTLS's for libmicrohttpd only if the loader sees it.
let alerts: [LinkerSetting] = [.unsafeFlags(["-Xlinker", "--export-dynamic-symbol=gnutls_handshake"])]

/// An async function stays on its caller's thread: a request that never waits never changes threads.
let stayOnThread: [SwiftSetting] = [.enableUpcomingFeature("NonisolatedNonsendingByDefault")]
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")

let package = Package(
    name: "clinker",
    products: [
        .executable(name: "clinker", targets: ["clinker"]),
        .library(name: "DriverKit", targets: ["DriverKit"]),
        .library(name: "ClinkerFile", type: .dynamic, targets: ["FileDriver"]),
        .library(name: "ClinkerRBD", type: .dynamic, targets: ["RBDDriver"]),
        .library(name: "ClinkerLVM", type: .dynamic, targets: ["LVMDriver"]),
        .library(name: "ClinkerNFS", type: .dynamic, targets: ["NFSDriver"]),
        .library(name: "ClinkerBackupPOSIX", type: .dynamic, targets: ["BackupPOSIX"]),
        .library(name: "ClinkerBackupNFS", type: .dynamic, targets: ["BackupNFS"]),
        .library(name: "ClinkerBackupRBD", type: .dynamic, targets: ["BackupRBD"]),
        .library(name: "ClinkerBackupS3", type: .dynamic, targets: ["BackupS3"]),
        .library(name: "ClinkerBackupSwift", type: .dynamic, targets: ["BackupSwift"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-log", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
    ],
    targets: [
        // The program: commands and the supervisor.
        .executableTarget(
            name: "clinker",
            dependencies: [
                "BlockAPI", "Flows", "Notifications", "Transfers", "DriverHost", "BlockStorage", "HTTPServer", "HTTPClient", "KeyManager",
                "OpenStack",
                "Policy",
                "Database",
                "Settings", "JSON",
                "Observability", "Processes", "Primitives", "CLinux", logging,
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            resources: [
                "template.c", "template.rs", "clinker.rs", "template.swift.txt", "store.c", "store.rs", "clinker_store.rs",
                "store.swift.txt",
                "driver.h",
            ].map {
                .embedInCode("Templates/\($0)")
            },
            swiftSettings: strict, linkerSettings: bound),

        // The rooms, from the front door to the cellar. Arrows only point down.
        .target(
            name: "BlockAPI",
            dependencies: [
                "HTTPServer", "BlockStorage", "OpenStack", "Policy", "CGnuTLS", "Database", "Settings", "JSON", "Observability",
                "Primitives", logging,
            ],
            swiftSettings: strict + stayOnThread),
        .target(
            name: "Flows",
            dependencies: [
                "BlockStorage", "DriverHost", "KeyManager", "Transfers", "Database", "Settings", "JSON", "Observability", "Primitives",
                logging,
            ],
            swiftSettings: strict),
        .target(
            name: "Transfers",
            dependencies: [
                "Backups", "CCrypto", "CDriver", "CLinux", "DriverHost", "HTTPClient", "ImageFormats", "JSON", "Processes", "Primitives",
                logging,
            ],
            swiftSettings: strict),
        .target(
            name: "DriverHost",
            dependencies: ["CDriver", "CLinux", "Processes", "Primitives", logging],
            swiftSettings: strict),
        .target(name: "DriverKit", dependencies: ["CDriver", "CLinux"], swiftSettings: strict),
        .target(name: "DiskImages", dependencies: ["DriverKit", "CDriver", "CZlib"], swiftSettings: strict),
        .target(name: "Targets", dependencies: ["DriverKit", "CDriver"], swiftSettings: strict),
        .target(name: "NFSClient", dependencies: ["DriverKit", "CDriver", "CNFS"], swiftSettings: strict),
        .target(name: "CephClient", dependencies: ["DriverKit", "CDriver", "CRBD", "JSON"], swiftSettings: strict),
        // What stores of backups behind HTTP have in common.
        .target(name: "ObjectServers", dependencies: ["DriverKit", "CDriver", "CCurl", "CCrypto"], swiftSettings: strict),
        .target(
            name: "BlockStorage", dependencies: ["Calendar", "CGnuTLS", "Database", "ImageFormats", "JSON", "Settings", "Primitives"],
            swiftSettings: strict),
        .target(
            name: "HTTPServer",
            dependencies: ["CMicroHTTPD", "CGnuTLS", "CLinux", "JSON", "Observability", "Primitives", logging],
            swiftSettings: strict + stayOnThread, linkerSettings: alerts),
        // The sender of notifications: from the outbox to the broker or the log.
        .target(
            name: "Notifications",
            dependencies: ["BlockStorage", "Messaging", "Database", "Settings", "JSON", "Observability", "Primitives", logging],
            swiftSettings: strict),
        // Notifications as oslo.messaging sends them, and the broker that takes them.
        .target(name: "Messaging", dependencies: ["CRabbitMQ", "CLinux", "JSON", "Primitives"], swiftSettings: strict),
        .target(
            name: "OpenStack", dependencies: ["HTTPClient", "JSON", "Settings", "Primitives", "CGnuTLS", "CCrypt", logging],
            swiftSettings: strict),
        // What headers of disk images say, read without trust.
        .target(name: "ImageFormats", swiftSettings: strict),
        // Who keeps the keys of encrypted volumes.
        .target(
            name: "KeyManager", dependencies: ["HTTPClient", "JSON", "Settings", "Primitives", "CCrypto"], swiftSettings: strict),
        .target(name: "Policy", dependencies: ["CYAML", "Primitives"], swiftSettings: strict),
        .target(name: "HTTPClient", dependencies: ["CCurl", "Primitives"], swiftSettings: strict),
        .target(name: "Database", dependencies: ["CLinux", "CSQLite", "Observability", "Primitives"], swiftSettings: strict),
        .target(name: "Settings", dependencies: ["Observability", "Primitives"], swiftSettings: strict),
        // Days, time zones, and what comes again and again by them.
        .target(name: "Calendar", dependencies: ["Primitives"], swiftSettings: strict),
        // The formats of backups and the engine that writes and reads them, over any store and any block device.
        .target(name: "Backups", dependencies: ["JSON", "Primitives", "CCrypto", "CZstd", "CZlib", "CBZip2"], swiftSettings: strict),
        .target(name: "JSON", swiftSettings: strict),
        .target(name: "Observability", dependencies: ["CLinux", "Processes", "Primitives", logging], swiftSettings: strict),
        .target(name: "Processes", dependencies: ["Primitives"], swiftSettings: strict),
        .target(name: "Primitives", dependencies: ["CLinux"], swiftSettings: strict),

        // C from outside.
        .systemLibrary(name: "CDriver", path: "Sources/CDriver"),
        .systemLibrary(
            name: "CMicroHTTPD", path: "Sources/CSystem/microhttpd", pkgConfig: "libmicrohttpd",
            providers: [.apt(["libmicrohttpd-dev"])]),
        .systemLibrary(
            name: "CSQLite", path: "Sources/CSystem/sqlite3", pkgConfig: "sqlite3", providers: [.apt(["libsqlite3-dev"])]),

        .systemLibrary(
            name: "CGnuTLS", path: "Sources/CSystem/gnutls", pkgConfig: "gnutls", providers: [.apt(["libgnutls28-dev"])]),
        .systemLibrary(
            name: "CCurl", path: "Sources/CSystem/curl", pkgConfig: "libcurl", providers: [.apt(["libcurl4-gnutls-dev"])]),
        .systemLibrary(
            name: "CYAML", path: "Sources/CSystem/yaml", pkgConfig: "yaml-0.1", providers: [.apt(["libyaml-dev"])]),
        .systemLibrary(
            name: "CCrypt", path: "Sources/CSystem/crypt", pkgConfig: "libcrypt", providers: [.apt(["libcrypt-dev"])]),
        .systemLibrary(name: "CLinux", path: "Sources/CSystem/linux"),
        .systemLibrary(name: "CRBD", path: "Sources/CSystem/rbd", providers: [.apt(["librbd-dev", "librados-dev"])]),
        .systemLibrary(name: "CCrypto", path: "Sources/CSystem/crypto", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CZstd", path: "Sources/CSystem/zstd", providers: [.apt(["libzstd-dev"])]),
        .systemLibrary(name: "CBZip2", path: "Sources/CSystem/bzip2", providers: [.apt(["libbz2-dev"])]),
        .systemLibrary(name: "CZlib", path: "Sources/CSystem/zlib", providers: [.apt(["zlib1g-dev"])]),
        .systemLibrary(
            name: "CRabbitMQ", path: "Sources/CSystem/rabbitmq", pkgConfig: "librabbitmq", providers: [.apt(["librabbitmq-dev"])]),
        .systemLibrary(name: "CNFS", path: "Sources/CSystem/nfs", providers: [.apt(["libnfs-dev"])]),

        // Drivers: each becomes lib<Product>.so and is opened at run time, never linked.
        .target(
            name: "FileDriver", dependencies: ["DriverKit", "CDriver", "CLinux"], path: "Plugins/File", exclude: ["README.md"],
            swiftSettings: strict, linkerSettings: bound),
        .target(
            name: "LVMDriver", dependencies: ["DriverKit", "CDriver", "Targets", "JSON", "CLinux"], path: "Plugins/LVM",
            exclude: ["README.md"], swiftSettings: strict, linkerSettings: bound),
        .target(
            name: "NFSDriver", dependencies: ["DriverKit", "CDriver", "DiskImages", "NFSClient", "JSON"], path: "Plugins/NFS",
            exclude: ["README.md"], swiftSettings: strict, linkerSettings: bound),
        .target(
            name: "BackupPOSIX", dependencies: ["DriverKit", "CDriver", "CLinux"], path: "Plugins/BackupPOSIX", exclude: ["README.md"],
            swiftSettings: strict, linkerSettings: bound),
        .target(
            name: "BackupNFS", dependencies: ["DriverKit", "CDriver", "NFSClient"], path: "Plugins/BackupNFS", exclude: ["README.md"],
            swiftSettings: strict, linkerSettings: bound),
        .target(
            name: "BackupRBD", dependencies: ["DriverKit", "CDriver", "CephClient", "CRBD", "JSON"], path: "Plugins/BackupRBD",
            exclude: ["README.md"], swiftSettings: strict, linkerSettings: bound),
        .target(
            name: "BackupS3", dependencies: ["DriverKit", "CDriver", "ObjectServers"], path: "Plugins/BackupS3", exclude: ["README.md"],
            swiftSettings: strict, linkerSettings: bound),
        .target(
            name: "BackupSwift", dependencies: ["DriverKit", "CDriver", "ObjectServers", "JSON"], path: "Plugins/BackupSwift",
            exclude: ["README.md"], swiftSettings: strict, linkerSettings: bound),
        .target(
            name: "RBDDriver", dependencies: ["DriverKit", "CDriver", "CephClient", "CRBD", "JSON"], path: "Plugins/RBD",
            exclude: ["README.md"],
            swiftSettings: strict, linkerSettings: bound),

        .target(
            name: "TestSupport", dependencies: ["CGnuTLS", "CLinux", "CRabbitMQ", "JSON", "Processes", "Primitives"], path: "Tests/Support",
            swiftSettings: strict),
        .testTarget(name: "PrimitivesTests", dependencies: ["Primitives"], swiftSettings: tests),
        .testTarget(name: "CalendarTests", dependencies: ["Calendar"], swiftSettings: tests),
        .testTarget(name: "ProcessesTests", dependencies: ["Processes", "Primitives", "TestSupport"], swiftSettings: tests),
        .testTarget(
            name: "ObservabilityTests", dependencies: ["Observability", "Primitives", "TestSupport", logging], swiftSettings: tests),
        .testTarget(name: "ImageFormatsTests", dependencies: ["ImageFormats", "Processes", "TestSupport"], swiftSettings: tests),
        .testTarget(
            name: "TransfersTests",
            dependencies: ["Transfers", "DriverHost", "ImageFormats", "Processes", "Primitives", "TestSupport"],
            swiftSettings: tests),
        .testTarget(name: "JSONTests", dependencies: ["JSON"], swiftSettings: tests),
        .testTarget(name: "SettingsTests", dependencies: ["clinker", "Settings", "Primitives", "TestSupport"], swiftSettings: tests),
        .testTarget(
            name: "ObjectServersTests", dependencies: ["CDriver", "DriverKit", "ObjectServers", "TestSupport"], swiftSettings: tests),
        .testTarget(name: "PolicyTests", dependencies: ["Policy"], swiftSettings: tests),
        .testTarget(name: "DatabaseTests", dependencies: ["CLinux", "Database", "Primitives", "TestSupport"], swiftSettings: tests),
        .testTarget(
            name: "BackupsTests", dependencies: ["Backups", "JSON", "Primitives", "Processes", "TestSupport"], swiftSettings: tests),
        .testTarget(
            name: "BlockStorageTests",
            dependencies: ["Calendar", "BlockStorage", "Database", "Settings", "JSON", "Primitives", "TestSupport"],
            swiftSettings: tests),
        .testTarget(
            name: "FlowsTests",
            dependencies: [
                "Flows", "Transfers", "DriverHost", "BlockStorage", "ImageFormats", "KeyManager", "Database", "Settings", "JSON",
                "Processes",
                "Primitives", "TestSupport", logging,
            ],
            exclude: ["Kept"], swiftSettings: tests),
        .testTarget(
            name: "HTTPServerTests", dependencies: ["HTTPServer", "JSON", "Observability", "Primitives", "TestSupport", logging],
            swiftSettings: tests),
        .testTarget(
            name: "BlockAPITests",
            dependencies: [
                "BlockAPI", "BlockStorage", "Database", "HTTPServer", "JSON", "OpenStack", "Policy", "Settings", "Observability",
                "Primitives", "TestSupport",
                logging,
            ],
            swiftSettings: tests),
        .testTarget(
            name: "NotificationsTests",
            dependencies: [
                "BlockStorage", "Database", "JSON", "Notifications", "Observability", "Primitives", "Processes", "Settings",
                "TestSupport", logging,
            ], swiftSettings: tests),
        .testTarget(
            name: "MessagingTests", dependencies: ["Messaging", "JSON", "Primitives", "Processes", "TestSupport"], swiftSettings: tests),
        .testTarget(
            name: "OpenStackTests",
            dependencies: ["HTTPServer", "OpenStack", "Settings", "Observability", "Primitives", "TestSupport"], swiftSettings: tests),
        .testTarget(
            name: "KeyManagerTests", dependencies: ["KeyManager", "Settings", "JSON", "Primitives", "TestSupport"],
            exclude: ["barbican"], swiftSettings: tests),
        .testTarget(
            name: "DriverHostTests",
            dependencies: ["Backups", "DriverHost", "Transfers", "CDriver", "CLinux", "Processes", "Primitives", "TestSupport"],
            exclude: ["Drivers", "abi.py"],
            swiftSettings: tests),
        .testTarget(
            name: "IntegrationTests",
            dependencies: ["Backups", "DriverHost", "JSON", "KeyManager", "Policy", "Processes", "Primitives", "Database", "TestSupport"],
            path: "Tests/Integration",
            exclude: ["clients", "captures", "glance", "keystone", "nova", "preload"], swiftSettings: tests),
    ]
)

// Fuzzers need libFuzzer's instrumentation everywhere, and get its main() when they are linked: Tests/Fuzz/run.
if Context.environment["CLINKER_FUZZ"] != nil {
    package.targets.append(
        .target(
            name: "Fuzz",
            dependencies: [
                "Backups", "BlockAPI", "BlockStorage", "CDriver", "Database", "DiskImages", "DriverHost", "DriverKit", "HTTPServer",
                "ImageFormats",
                "JSON", "OpenStack",
                "Policy", "Settings", "Observability", "Primitives",
            ],
            path: "Tests/Fuzz",
            exclude: ["corpus", "run"], swiftSettings: strict))
}

// The engine of backups on files, for `make bench`.
if Context.environment["CLINKER_BENCH"] != nil {
    package.targets.append(
        .executableTarget(
            name: "backup-bench", dependencies: ["Backups", "Primitives"], path: "Tests/Bench/Backups", swiftSettings: strict))
}
