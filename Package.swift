// swift-tools-version: 6.3
import PackageDescription

let package = Package(
    name: "fairlead",
    products: [
        .executable(name: "fairlead-cni", targets: ["fairlead-cni"]),
        .executable(name: "fairlead-agent", targets: ["fairlead-agent"]),
        .executable(name: "fairlead", targets: ["fairlead"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.3.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.81.0"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.29.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.0"),
    ],
    targets: [
        // MARK: - C libraries: module maps and shims; of libmnl also what it does, for Debian has no archive of it

        .target(name: "CLibMnl"),
        .systemLibrary(name: "CLibNftnl", pkgConfig: "libnftnl", providers: [.apt(["libnftnl-dev"])]),
        .systemLibrary(
            name: "CLibNl", pkgConfig: "libnl-route-3.0", providers: [.apt(["libnl-3-dev", "libnl-route-3-dev"])]),
        .target(name: "CLinux"),

        // MARK: - Values

        .target(name: "NetworkAddresses"),
        .target(name: "NetlinkWire", dependencies: ["NetworkAddresses"]),
        .target(name: "RouteNetlink", dependencies: ["NetworkAddresses"]),
        .target(name: "Nftables", dependencies: ["NetworkAddresses"]),
        .target(name: "JSONText"),
        .target(name: "KubernetesObjects", dependencies: ["NetworkAddresses", "JSONText"]),
        .target(name: "CNIProtocol", dependencies: ["NetworkAddresses", "JSONText"]),

        // MARK: - Pure compilers: snapshot in, plan out

        .target(name: "ServiceRules", dependencies: ["NetworkAddresses", "Nftables", "KubernetesObjects"]),
        .target(name: "PolicyRules", dependencies: ["NetworkAddresses", "Nftables", "KubernetesObjects"]),
        .target(name: "OverlayRoutes", dependencies: ["NetworkAddresses", "RouteNetlink", "KubernetesObjects"]),
        .target(
            name: "ProxyConfiguration", dependencies: ["NetworkAddresses", "KubernetesObjects", "ServiceRules"]),
        .target(name: "NodeDuties", dependencies: ["NetworkAddresses", "KubernetesObjects", "ProxyConfiguration"]),
        .target(name: "AddressAllocation", dependencies: ["NetworkAddresses", "CNIProtocol"]),
        .target(
            name: "PodAttachment",
            dependencies: ["NetworkAddresses", "RouteNetlink", "Nftables", "CNIProtocol", "AddressAllocation"]),
        .target(
            name: "PacketPath",
            dependencies: [
                "NetworkAddresses", "NetlinkWire", "RouteNetlink", "Nftables", "KubernetesObjects", "ServiceRules",
                "PolicyRules",
            ]),

        // MARK: - Effects

        .target(
            name: "KernelInterface",
            dependencies: [
                "CLibMnl", "CLibNftnl", "CLibNl", "CLinux", "NetworkAddresses", "NetlinkWire", "RouteNetlink",
                "Nftables", .product(name: "SystemPackage", package: "swift-system"),
            ]),
        .target(
            name: "LeaseStore",
            dependencies: [
                "NetworkAddresses", "AddressAllocation", "KernelInterface",
                .product(name: "SystemPackage", package: "swift-system"),
            ]),
        .target(
            name: "ManifestFolder",
            dependencies: [
                "NetworkAddresses", "KubernetesObjects", "KernelInterface", "Yams",
                .product(name: "SystemPackage", package: "swift-system"),
            ]),
        .target(
            name: "Reconciliation",
            dependencies: [
                "NetworkAddresses", "RouteNetlink", "Nftables", "KubernetesObjects", "ServiceRules", "PolicyRules",
                "OverlayRoutes", "KernelInterface", "NetlinkWire", .product(name: "Logging", package: "swift-log"),
                .product(name: "SystemPackage", package: "swift-system"),
            ]),
        .target(
            name: "KubernetesClient",
            dependencies: [
                "KubernetesObjects", "KernelInterface", "ManifestFolder",
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "SystemPackage", package: "swift-system"),
            ]),
        .target(
            name: "Lab",
            dependencies: [
                "NetworkAddresses", "RouteNetlink", "KubernetesObjects", "KernelInterface", "ManifestFolder", "Yams",
                .product(name: "SystemPackage", package: "swift-system"),
            ]),

        // MARK: - Binaries

        .executableTarget(
            name: "fairlead-cni",
            dependencies: [
                "NetworkAddresses", "NetlinkWire", "RouteNetlink", "Nftables", "CNIProtocol", "AddressAllocation",
                "PodAttachment", "KernelInterface", "LeaseStore",
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            // Runtimes start it once per pod operation, often with its pages cold. Static, so that it is one file that
            // needs nothing of the node it is copied to, and that no loader has to bind together; without symbols it is
            // half the size. GNU's linkers warn of functions in libnl that nobody calls, LLVM's does not; the warning it
            // is told to leave out is of the `-pie` that `-static` takes the meaning of.
            linkerSettings: [
                .unsafeFlags(
                    [
                        "-Xlinker", "-s", "-use-ld=lld", "-Xclang-linker", "-static",
                        "-Xclang-linker", "-Wno-unused-command-line-argument",
                    ], .when(configuration: .release))
            ]),
        .executableTarget(
            name: "fairlead-agent",
            dependencies: [
                "NetworkAddresses", "RouteNetlink", "Nftables", "KubernetesObjects", "CNIProtocol", "ServiceRules",
                "PolicyRules", "OverlayRoutes", "ProxyConfiguration", "NodeDuties", "ManifestFolder",
                "KubernetesClient", "Reconciliation", "KernelInterface", "PodAttachment",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            linkerSettings: [.unsafeFlags(["-Xlinker", "-s"], .when(configuration: .release))]),
        .executableTarget(
            name: "fairlead",
            dependencies: [
                "NetworkAddresses", "NetlinkWire", "RouteNetlink", "Nftables", "KubernetesObjects", "PacketPath",
                "KernelInterface", "ManifestFolder", "Lab",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
            ]),

        .executableTarget(
            name: "fairlead-bench",
            dependencies: [
                "NetworkAddresses", "RouteNetlink", "Nftables", "KubernetesObjects", "ServiceRules", "KernelInterface",
                "Reconciliation",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ]),

        // MARK: - Tests

        .testTarget(name: "NetworkAddressesTests", dependencies: ["NetworkAddresses"]),
        .testTarget(
            name: "ServiceRulesTests", dependencies: ["ServiceRules", "KubernetesObjects", "Nftables", "NetworkAddresses"]),
        .testTarget(
            name: "OverlayRoutesTests",
            dependencies: ["OverlayRoutes", "KubernetesObjects", "RouteNetlink", "NetworkAddresses"]),
        .testTarget(
            name: "ReconciliationTests",
            dependencies: [
                "Reconciliation", "KernelInterface", "KubernetesObjects", "NetlinkWire", "NetworkAddresses", "Nftables",
                "OverlayRoutes", "PolicyRules", "RouteNetlink", "ServiceRules", .product(name: "Logging", package: "swift-log"),
                .product(name: "SystemPackage", package: "swift-system"),
            ]),
        .testTarget(
            name: "ProxyConfigurationTests",
            dependencies: [
                "ProxyConfiguration", "KubernetesObjects", "NetworkAddresses", "ManifestFolder", "ServiceRules",
            ]),
        .testTarget(
            name: "NodeDutiesTests",
            dependencies: ["NodeDuties", "ProxyConfiguration", "KubernetesObjects", "NetworkAddresses"]),
        .testTarget(
            name: "ContainerRuntimeTests", dependencies: ["KernelInterface"],
            exclude: ["run-in-containerd", "machine", "make-image", "cri"]),
        .testTarget(name: "NftablesTests", dependencies: ["Nftables", "NetworkAddresses"]),
        .testTarget(name: "NetlinkWireTests", dependencies: ["NetlinkWire", "NetworkAddresses"]),
        .testTarget(
            name: "KernelInterfaceTests",
            dependencies: [
                "KernelInterface", "NetlinkWire", "NetworkAddresses", "RouteNetlink", "Nftables",
                .product(name: "SystemPackage", package: "swift-system"),
            ]),
        .testTarget(
            name: "PolicyRulesTests",
            dependencies: [
                "PolicyRules", "PacketPath", "Nftables", "NetworkAddresses", "RouteNetlink", "KubernetesObjects",
                "KernelInterface",
            ]),
        .testTarget(
            name: "PacketPathTests",
            dependencies: [
                "PacketPath", "NetworkAddresses", "NetlinkWire", "RouteNetlink", "Nftables", "KubernetesObjects",
                "ServiceRules", "PolicyRules", "KernelInterface", "fairlead",
            ]),
        .testTarget(name: "KubernetesObjectsTests", dependencies: ["NetworkAddresses", "KubernetesObjects"]),
        .testTarget(
            name: "KubernetesClientTests",
            dependencies: [
                "KubernetesClient", "KubernetesObjects", "KernelInterface", "NetworkAddresses", "RouteNetlink",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                "fairlead-agent",
            ]),
        .testTarget(
            name: "ManifestFolderTests",
            dependencies: ["NetworkAddresses", "KubernetesObjects", "KernelInterface", "ManifestFolder"]),
        .testTarget(name: "CNIProtocolTests", dependencies: ["CNIProtocol", "JSONText", "NetworkAddresses"]),
        .testTarget(
            name: "AddressAllocationTests", dependencies: ["AddressAllocation", "CNIProtocol", "NetworkAddresses"]),
        .testTarget(
            name: "LeaseStoreTests",
            dependencies: ["LeaseStore", "AddressAllocation", "KernelInterface", "NetworkAddresses"]),
        .testTarget(
            name: "PodAttachmentTests",
            dependencies: ["PodAttachment", "CNIProtocol", "Nftables", "RouteNetlink", "NetworkAddresses"]),
        .testTarget(
            name: "CNIPluginTests",
            dependencies: [
                "fairlead-cni", "CNIProtocol", "PodAttachment", "KernelInterface", "Nftables", "RouteNetlink",
                "NetworkAddresses", .product(name: "SystemPackage", package: "swift-system"),
            ]),
        .testTarget(name: "LabTests", dependencies: ["NetworkAddresses", "KubernetesObjects", "KernelInterface", "Lab"]),
        .testTarget(
            name: "LabScenarioTests",
            dependencies: ["NetworkAddresses", "RouteNetlink", "KubernetesObjects", "KernelInterface", "Lab"]),
    ]
)

// Every target of ours speaks Swift 6 and proves its memory safety; the fence around what cannot is KernelInterface.
let unsafeTargets: Set<String> = ["KernelInterface"]
let cTargets: Set<String> = ["CLibMnl", "CLinux"]
for target in package.targets where target.type != .system && !cTargets.contains(target.name) {
    var settings: [SwiftSetting] = [
        .swiftLanguageMode(.v6),
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("InternalImportsByDefault"),
    ]
    // Which of the C modules a struct of the C library belongs to depends on the order in which the compiler reads them.
    if !unsafeTargets.contains(target.name) { settings.append(.enableUpcomingFeature("MemberImportVisibility")) }
    if !unsafeTargets.contains(target.name) && target.type != .test {
        settings += [.strictMemorySafety(), .treatWarning("StrictMemorySafety", as: .error)]
    }
    if target.name == "Nftables" {
        // `Assembly` is generic over its owners, who live in other modules: without this it runs unspecialised.
        settings.append(.unsafeFlags(["-cross-module-optimization"], .when(configuration: .release)))
    }
    target.swiftSettings = settings
}
