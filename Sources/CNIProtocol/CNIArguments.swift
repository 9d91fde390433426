public import NetworkAddresses

/// The pairs of `CNI_ARGS`: `K=V;K=V`.
public struct CNIArguments: Hashable, Sendable {
    private var values: [String: String] = [:]

    /// The keys that some plugin of ours knows.
    ///
    /// Each plugin accepts them all: the runtime hands one `CNI_ARGS` to every plugin of a chain and to the IPAM plugin
    /// beneath, and a `MAC` meant for the bridge is no reason for the IPAM plugin to refuse.
    static let knownKeys: Set<String> = [
        "IgnoreUnknown", "IP", "MAC", "GATEWAY", "K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_UID",
        "K8S_POD_INFRA_CONTAINER_ID",
    ]

    /// No arguments at all.
    public init() {}

    public init(parsing text: String) throws(CNIError) {
        guard !text.isEmpty else { return }
        var unknown: [String] = []
        for pair in text.split(separator: ";", omittingEmptySubsequences: false) {
            let halves = pair.split(separator: "=", omittingEmptySubsequences: false)
            guard halves.count == 2 else {
                throw CNIError(.invalidEnvironment, "CNI_ARGS: invalid pair \(JSONValue.string(String(pair)).brief)")
            }
            let key = String(halves[0])
            if Self.knownKeys.contains(key) { values[key] = String(halves[1]) } else { unknown.append(String(pair)) }
        }
        let ignoresUnknown = try ignoresUnknown()
        guard unknown.isEmpty || ignoresUnknown else {
            let list = unknown.map { JSONValue.string($0).brief }.joined(separator: " ")
            throw CNIError(.invalidEnvironment, "CNI_ARGS: unknown args [\(list)]")
        }
    }

    private func ignoresUnknown() throws(CNIError) -> Bool {
        guard let text = values["IgnoreUnknown"] else { return false }
        switch text.lowercased() {
        case "1", "true": return true
        case "0", "false": return false
        default: throw fault("IgnoreUnknown", "boolean")
        }
    }

    private func fault(_ key: String, _ kind: String) -> CNIError {
        let pair = JSONValue.string("\(key)=\(values[key] ?? "")").brief
        return CNIError(.invalidEnvironment, "CNI_ARGS: error parsing value of pair \(pair): no \(kind)")
    }

    /// The value under `key`; absent and empty are the same.
    public subscript(key: String) -> String? {
        guard let value = values[key], !value.isEmpty else { return nil }
        return value
    }

    /// The address asked for with `IP`, with or without a prefix length.
    public func requestedAddress() throws(CNIError) -> IPAddress? {
        guard let text = self["IP"] else { return nil }
        guard let address = IPAddress(text) ?? IPPrefix(text)?.address else { throw fault("IP", "IP address") }
        return address
    }

    /// The Ethernet address asked for with `MAC`.
    public func requestedMAC() throws(CNIError) -> MACAddress? {
        guard let text = self["MAC"] else { return nil }
        guard let mac = MACAddress(text) else { throw fault("MAC", "Ethernet address") }
        return mac
    }
}
