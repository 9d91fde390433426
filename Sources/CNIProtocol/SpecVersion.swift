/// A version of the CNI specification.
public struct SpecVersion: Hashable, Comparable, Sendable, CustomStringConvertible {
    let major: Int
    let minor: Int
    let patch: Int

    static let v0_1_0 = SpecVersion(0, 1, 0)
    static let v0_3_0 = SpecVersion(0, 3, 0)
    static let v0_4_0 = SpecVersion(0, 4, 0)
    public static let v1_0_0 = SpecVersion(1, 0, 0)
    static let v1_1_0 = SpecVersion(1, 1, 0)

    /// The version that the binary speaks by itself.
    public static let current = v1_1_0

    /// The versions that every plugin of ours speaks.
    public static let supported: [SpecVersion] = [
        v0_1_0, SpecVersion(0, 2, 0), v0_3_0, SpecVersion(0, 3, 1), v0_4_0, v1_0_0, v1_1_0,
    ]

    init(_ major: Int, _ minor: Int, _ patch: Int) {
        self.major = major
        self.minor = minor
        self.patch = patch
    }

    /// Parses one to three numbers between dots.
    init?(_ text: String) {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false).map { Int($0) }
        guard (1...3).contains(parts.count), parts.allSatisfy({ $0 != nil && $0! >= 0 }) else { return nil }
        let numbers = parts.compactMap(\.self) + [0, 0]
        self.init(numbers[0], numbers[1], numbers[2])
    }

    public var description: String { "\(major).\(minor).\(patch)" }

    /// Whether results have one address of each family under `ip4` and `ip6` and nothing else.
    public var hasOneAddressPerFamily: Bool { self < .v0_3_0 }

    public static func < (left: Self, right: Self) -> Bool {
        (left.major, left.minor, left.patch) < (right.major, right.minor, right.patch)
    }
}
