public import KubernetesObjects
internal import NetworkAddresses
internal import ServiceRules

extension KubeProxyConfiguration {
    /// What came of reading a document.
    public struct Reading: Sendable {
        /// Nil where something in the document cannot be used at all: the notes of severity error say what.
        public var configuration: KubeProxyConfiguration?
        public var notes: [Note]
    }

    /// Reads a document with all its defaults.
    ///
    /// A field that is not known or written twice is passed over with a warning, as kube-proxy does after a strict
    /// reading has failed; so is, by name and with the reason, a known one that changes nothing here. What is known and
    /// makes no sense is an error: all of them are reported, not only the first.
    ///
    /// - Parameter tree: Nil stands for a document that says nothing.
    /// - Parameter source: What to call the document in notes.
    /// - Parameter isFile: Whether it is a file, in which a blank mode means iptables and a blank `detectLocalMode` that
    ///   of `clusterCIDR`; of a command line that leaves them out, nftables and the Node's own networks are made.
    public static func read(_ tree: FieldValue?, source: String, isFile: Bool = true) -> Reading {
        var reader = DocumentReader(source: source)
        let configuration = reader.read(tree, isFile: isFile && tree != nil)
        return Reading(
            configuration: reader.notes.contains { $0.severity == .error } ? nil : configuration, notes: reader.notes)
    }

    /// The document with a field set, for what the command line says: it is read by the same rules as a file.
    ///
    /// - Parameter path: Such as `conntrack.min`.
    public static func setting(_ value: FieldValue, at path: String, in tree: FieldValue?) -> FieldValue {
        var tree = tree ?? ["apiVersion": .string(DocumentDefaults.apiVersion), "kind": .string(DocumentDefaults.kind)]
        tree.set(value, at: path.split(separator: "."))
        return tree
    }
}

/// Reads one document and keeps what is wrong with it.
private struct DocumentReader {
    let source: String
    var notes: [Note] = []

    mutating func read(_ tree: FieldValue?, isFile: Bool) -> KubeProxyConfiguration? {
        var given =
            tree ?? ["apiVersion": .string(DocumentDefaults.apiVersion), "kind": .string(DocumentDefaults.kind)]
        guard case .object = given else {
            complain("", "is no \(DocumentDefaults.kind)")
            return nil
        }
        for (field, expected) in [("kind", DocumentDefaults.kind), ("apiVersion", DocumentDefaults.apiVersion)]
        where given[field] != .string(expected) {
            complain(field, "is not \(expected)")
        }
        given = withoutRepetitions(given, at: "")
        let family = address(given.value(at: "bindAddress"))?.family ?? .ipv4
        let defaults = DocumentDefaults.tree(family)
        let document = merged(given, over: defaults, at: "")
        for (path, reason) in DocumentDefaults.unused where document.value(at: path) != defaults.value(at: path) {
            warn(path, "is not used: \(reason)")
        }
        // Its default is true too, but asks for nothing that anybody chose.
        if given.value(at: "iptables.localhostNodePorts") == true {
            warn("iptables.localhostNodePorts", "is not used: node ports do not answer at 127.0.0.1")
        }
        return configuration(document, modeIsOpen: !isFile)
    }

    private mutating func configuration(_ document: FieldValue, modeIsOpen: Bool) -> KubeProxyConfiguration? {
        let mode = self.mode(document, isOpen: modeIsOpen)
        let section = mode?.rawValue ?? "nftables"
        // IPVS mode takes the switch from the section of iptables.
        let masquerade: Bool? = read(document, at: "\(mode == .ipvs ? "iptables" : section).masqueradeAll")
        let syncPeriod = duration(document, at: "\(section).syncPeriod", atLeast: .nanoseconds(1))
        let leastPeriod = duration(document, at: "\(section).minSyncPeriod")
        if let syncPeriod, let leastPeriod, leastPeriod > syncPeriod {
            complain("\(section).syncPeriod", "is shorter than \(section).minSyncPeriod")
        }
        for path in ["iptables.masqueradeBit", "nftables.masqueradeBit"] { _ = number(document, at: path, in: 0...31) }
        _ = duration(document, at: "configSyncPeriod", atLeast: .nanoseconds(1))
        _ = number(document, at: "clientConnection.burst", in: 0...Int(Int32.max))
        let hostname: String? = read(document, at: "hostnameOverride")
        let kubeconfig: String? = read(document, at: "clientConnection.kubeconfig")
        let bind = self.bind(document)
        let (healthz, metrics) = (
            socketAddress(document, at: "healthzBindAddress", port: 10256),
            socketAddress(document, at: "metricsBindAddress", port: 10249)
        )
        let (hardFail, verbosity): (Bool?, Int?) = (
            read(document, at: "bindAddressHardFail"), number(document, at: "logging.verbosity", in: 0...1000)
        )
        let (local, nodePorts) = (
            localTraffic(document, isOpen: modeIsOpen), nodePortAddresses(document, mode: mode ?? .nftables)
        )
        let oom = number(document, at: "oomScoreAdj", in: -1000...1000)
        let (conntrack, gates) = (self.conntrack(document), gates(document))
        guard let mode, let masquerade, let syncPeriod, let hostname, let kubeconfig, let bind, let healthz,
            let metrics,
            let hardFail, let verbosity, let local, let nodePorts, let oom, let conntrack
        else { return nil }
        noteMode(mode, document, isOpen: modeIsOpen)
        return KubeProxyConfiguration(
            kubeconfig: kubeconfig, hostnameOverride: String(hostname.filter { !$0.isWhitespace }).lowercased(),
            healthzAddress: healthz, metricsAddress: metrics, bindAddressHardFail: hardFail, mode: mode,
            services: ServiceSettings(
                localTraffic: local, masqueradesAll: masquerade, nodePortAddresses: nodePorts, allowsExternalIPs: gates,
                primaryAddress: bind.isUnspecified ? nil : bind),
            syncPeriod: syncPeriod, oomScoreAdjustment: oom, conntrack: conntrack, verbosity: verbosity,
            document: document)
    }

    // MARK: - Parts

    /// - Parameter isOpen: Whether nobody chose: a file that leaves the mode blank chooses iptables.
    private mutating func mode(_ document: FieldValue, isOpen: Bool) -> KubeProxyConfiguration.Mode? {
        guard let text: String = read(document, at: "mode") else { return nil }
        if text.isEmpty { return isOpen ? .nftables : .iptables }
        guard let mode = KubeProxyConfiguration.Mode(rawValue: text) else {
            complain("mode", "\"\(text.prefix(60))\" is none of iptables, ipvs, nftables")
            return nil
        }
        return mode
    }

    private mutating func noteMode(_ mode: KubeProxyConfiguration.Mode, _ document: FieldValue, isOpen: Bool) {
        guard !isOpen, mode != .nftables else { return }
        let blank = document["mode"] == "" ? "blank, which is iptables; it " : "\(mode.rawValue); it "
        warn(
            "mode",
            "is \(blank)decides what the other fields mean, but rules are made in tables of our own, by nftables")
    }

    private mutating func bind(_ document: FieldValue) -> IPAddress? {
        guard let address = address(document.value(at: "bindAddress")) else {
            complain("bindAddress", "is no IP address")
            return nil
        }
        return address
    }

    /// - Parameter isOpen: Whether a blank mode without a network asks for the best there is: the Node's own networks.
    private mutating func localTraffic(_ document: FieldValue, isOpen: Bool) -> ServiceSettings.LocalTraffic? {
        guard let mode: String = read(document, at: "detectLocalMode"),
            let networks = networks(document, at: "clusterCIDR"),
            let bridge: String = read(document, at: "detectLocal.bridgeInterface"),
            let prefix: String = read(document, at: "detectLocal.interfaceNamePrefix")
        else { return nil }
        switch mode {
        case "" where isOpen && networks.isEmpty: return .nodeCIDR
        case "", "ClusterCIDR": return .clusterCIDR(networks)
        case "NodeCIDR": return .nodeCIDR
        case "BridgeInterface":
            if let name = InterfaceName(bridge) { return .bridgeInterface(name) }
            complain(
                "detectLocal.bridgeInterface",
                bridge.isEmpty ? "is missing: detectLocalMode is BridgeInterface" : "is no interface name")
        case "InterfaceNamePrefix":
            if let name = InterfaceName(prefix) { return .interfaceNamePrefix(name) }
            complain(
                "detectLocal.interfaceNamePrefix",
                prefix.isEmpty ? "is missing: detectLocalMode is InterfaceNamePrefix" : "begins no interface name")
        default:
            complain(
                "detectLocalMode",
                "\"\(mode.prefix(60))\" is none of ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix")
        }
        return nil
    }

    /// One network, or one of each family between commas; none where the field is empty.
    private mutating func networks(_ document: FieldValue, at path: String) -> [IPPrefix]? {
        guard let text: String = read(document, at: path) else { return nil }
        let parts = text.split(separator: ",", omittingEmptySubsequences: false).map { $0.filter { !$0.isWhitespace } }
        guard !text.isEmpty else { return [] }
        guard parts.count <= 2 else {
            complain(path, "has more than two networks: one, or one of each family, is meant")
            return nil
        }
        var networks: [IPPrefix] = []
        for part in parts {
            guard let network = network(.string(part)) else {
                complain(path, "\"\(part.prefix(60))\" is no network in CIDR notation")
                return nil
            }
            networks.append(network)
        }
        guard networks.count < 2 || networks[0].family != networks[1].family else {
            complain(path, "has two \(networks[0].family) networks: one, or one of each family, is meant")
            return nil
        }
        return networks
    }

    private mutating func nodePortAddresses(
        _ document: FieldValue, mode: KubeProxyConfiguration.Mode
    ) -> ServiceSettings.NodePortAddresses? {
        let elements: [FieldValue]
        switch document["nodePortAddresses"] ?? .null {
        case .null: elements = []
        case .array(let values): elements = values
        default:
            complain("nodePortAddresses", "is no list")
            return nil
        }
        // The other modes bind node ports to every local address.
        guard !elements.isEmpty else { return mode == .nftables ? .primary : .all }
        if elements.contains("primary") {
            guard elements.count == 1 else {
                complain("nodePortAddresses", "has both \"primary\" and others; \"primary\" stands alone")
                return nil
            }
            return .primary
        }
        var networks: [IPPrefix] = []
        for (index, element) in elements.enumerated() {
            guard let network = network(element) else {
                complain("nodePortAddresses[\(index)]", "is neither a network in CIDR notation nor \"primary\"")
                continue
            }
            networks.append(network)
        }
        return networks.count == elements.count ? .networks(networks) : nil
    }

    private mutating func conntrack(_ document: FieldValue) -> KubeProxyConfiguration.Conntrack? {
        let most = Int(Int32.max)
        let (perCore, min) = (
            number(document, at: "conntrack.maxPerCore", in: 0...most),
            number(document, at: "conntrack.min", in: 0...most)
        )
        let (established, closeWait) = (
            duration(document, at: "conntrack.tcpEstablishedTimeout"),
            duration(document, at: "conntrack.tcpCloseWaitTimeout")
        )
        let (udp, stream) = (
            duration(document, at: "conntrack.udpTimeout"), duration(document, at: "conntrack.udpStreamTimeout")
        )
        guard let perCore, let min, let established, let closeWait, let udp, let stream,
            let liberal: Bool = read(document, at: "conntrack.tcpBeLiberal")
        else { return nil }
        return .init(
            maxPerCore: perCore, min: min, tcpEstablishedTimeout: established, tcpCloseWaitTimeout: closeWait,
            tcpBeLiberal: liberal, udpTimeout: udp, udpStreamTimeout: stream)
    }

    /// Whether external addresses count; every other gate is named as not used.
    private mutating func gates(_ document: FieldValue) -> Bool {
        var allowsExternalIPs = true
        guard case .object(let gates)? = document["featureGates"] else {
            complain("featureGates", "is no map")
            return true
        }
        for gate in gates.entries {
            guard case .bool(let isOn) = gate.value else {
                complain("featureGates.\(gate.key)", "is neither true nor false")
                continue
            }
            if gate.key == "AllowServiceExternalIPs" {
                allowsExternalIPs = isOn
            } else {
                warn("featureGates.\(gate.key)", "is not used: there is no such gate here")
            }
        }
        return allowsExternalIPs
    }

    // MARK: - Values

    private mutating func read<Value: FieldReadable>(_ document: FieldValue, at path: String) -> Value? {
        do throws(FieldError) {
            var field = FieldReader(document, problems: FieldProblems())
            for key in path.split(separator: ".") { field = try field[String(key)] }
            return try field.read()
        } catch {
            complain(error.field, error.message)
            return nil
        }
    }

    private mutating func number(_ document: FieldValue, at path: String, in range: ClosedRange<Int>) -> Int? {
        guard let number: Int = read(document, at: path) else { return nil }
        guard range.contains(number) else {
            complain(path, "\(number) is not within \(range.lowerBound) to \(range.upperBound)")
            return nil
        }
        return number
    }

    private mutating func duration(_ document: FieldValue, at path: String, atLeast least: Duration = .zero)
        -> Duration?
    {
        guard let value: GoDuration = read(document, at: path) else { return nil }
        guard value.duration >= least else {
            complain(path, "\(value) is \(least == .zero ? "negative" : "not greater than 0")")
            return nil
        }
        return value.duration
    }

    /// `address:port`, or an address alone, to which the usual port belongs.
    private mutating func socketAddress(_ document: FieldValue, at path: String, port usual: Int) -> SocketAddress? {
        guard let text: String = read(document, at: path) else { return nil }
        var (host, port) = (text[...], Port(usual))
        if text.hasPrefix("["), let end = text.lastIndex(of: "]") {
            host = text[text.index(after: text.startIndex)..<end]
            let rest = text[text.index(after: end)...]
            if !rest.isEmpty { port = rest.hasPrefix(":") ? Port(String(rest.dropFirst())) : nil }
        } else if text.count(where: { $0 == ":" }) == 1, let colon = text.firstIndex(of: ":") {
            host = text[..<colon]
            port = Port(String(text[text.index(after: colon)...]))
        }
        guard let address = address(.string(String(host))), let port else {
            complain(path, "\"\(text.prefix(60))\" is not address:port")
            return nil
        }
        return SocketAddress(address, port)
    }

    private func address(_ value: FieldValue) -> IPAddress? {
        do throws(FieldError) {
            return try FieldReader(value, problems: FieldProblems()).readIfPresent()
        } catch {
            return nil
        }
    }

    private func network(_ value: FieldValue) -> IPPrefix? {
        do throws(FieldError) {
            return try FieldReader(value, problems: FieldProblems()).readIfPresent()
        } catch {
            return nil
        }
    }

    // MARK: - The document as a whole

    /// Of fields that are written twice the last counts.
    private mutating func withoutRepetitions(_ tree: FieldValue, at path: String) -> FieldValue {
        guard case .object(let object) = tree else { return tree }
        var result = FieldObject()
        for entry in object.entries {
            let child = path.isEmpty ? entry.key : "\(path).\(entry.key)"
            if result[entry.key] != nil { warn(child, "is given twice; the last one counts") }
            result[entry.key] = withoutRepetitions(entry.value, at: child)
        }
        return .object(result)
    }

    /// The defaults, replaced by what is said; with a warning for each field that is not known.
    private mutating func merged(_ given: FieldValue, over defaults: FieldValue, at path: String) -> FieldValue {
        guard case .object(let known) = defaults, !known.entries.isEmpty, case .object(let object) = given else {
            let isSilent = DocumentDefaults.optional.contains(path) ? given == .null : given.isZero
            return isSilent ? defaults : given
        }
        var result = known
        for entry in object.entries {
            let child = path.isEmpty ? entry.key : "\(path).\(entry.key)"
            if let fallback = known[entry.key] {
                result[entry.key] = merged(entry.value, over: fallback, at: child)
            } else {
                let near = known.entries.first { $0.key.lowercased() == entry.key.lowercased() }
                warn(child, "is not known, and not used" + (near.map { "; \"\($0.key)\" is" } ?? ""))
            }
        }
        return .object(result)
    }

    private mutating func complain(_ field: String, _ message: String) {
        notes.append(Note(source: source, object: nil, field: field, message: message))
    }

    private mutating func warn(_ field: String, _ message: String) {
        notes.append(Note(source: source, object: nil, field: field, message: message, severity: .warning))
    }
}
