/// How the nodes of a lab are joined: what its agents get as `--overlay`.
public enum LabOverlay: String, Codable, Hashable, Sendable, CaseIterable {
    case vxlan
    case direct
    case crossSubnet = "cross-subnet"
    case none
}
