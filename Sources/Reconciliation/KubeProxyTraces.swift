public import KernelInterface
internal import NetworkAddresses
internal import Nftables
internal import RouteNetlink

/// What a kube-proxy has in the kernel: of its nftables mode, and of its iptables mode where iptables writes nftables.
///
/// Only what bears a name that kube-proxy alone gives is its; the kubelet's chains, network plugins' chains and an
/// administrator's rules stay, even where they lead to a chain of kube-proxy's.
public struct KubeProxyTraces: ~Copyable {
    private let socket: NftablesSocket
    private let links: RouteSocket

    /// Works in the calling thread's network namespace.
    public init() throws(KernelError) {
        let tables = try NftablesSocket.open()
        let devices = try RouteSocket.open()
        socket = tables
        links = devices
    }

    /// What there is, in words.
    public func find() throws(KernelError) -> [String] {
        var found = try ownTables().map { "table \($0)" }
        for table in try foreignTables() {
            let chains = try chains(of: table).removable
            if !chains.isEmpty { found.append("\(chains.count) chains in table \(table)") }
        }
        return found
    }

    /// Removes it, each table in one transaction.
    ///
    /// - Returns: what was removed, and what is there but has to stay, in words.
    public func remove() throws(KernelError) -> (removed: [String], staying: [String]) {
        var (removed, staying): ([String], [String]) = ([], [])
        for table in try ownTables() {
            try socket.removeTable(table)
            removed.append("table \(table)")
        }
        for table in try foreignTables() {
            let plan = try chains(of: table)
            for (chain, user) in plan.kept.sorted(by: { $0.key < $1.key }) {
                staying.append("chain \(chain) of table \(table), because chain \(user) uses it")
            }
            try socket.remove(plan.rules, chains: plan.removable, from: table)
            if !plan.removable.isEmpty { removed.append("\(plan.removable.count) chains of table \(table)") }
        }
        return (removed, staying + (try unreachable()))
    }

    /// What kube-proxy may have where nftables' netlink does not reach.
    public func unreachable() throws(KernelError) -> [String] {
        var unreachable: [String] = []
        for file in ["ip_tables_names", "ip6_tables_names"] {
            guard let bytes = try? readFile("/proc/net/\(file)", limit: 4096), !bytes.isEmpty else { continue }
            let tables = String(decoding: bytes, as: UTF8.self).split(separator: "\n").joined(separator: ", ")
            unreachable.append(
                "whatever it has in the legacy iptables tables \(tables) (/proc/net/\(file)); run kube-proxy --cleanup")
        }
        if let name = InterfaceName("kube-ipvs0"), try links.link(named: name) != nil {
            unreachable.append("its IPVS services and device kube-ipvs0; run kube-proxy --cleanup")
        }
        return unreachable
    }

    // MARK: - Reading

    private func ownTables() throws(KernelError) -> [TableName] {
        let own = [TableName(.ip, "kube-proxy"), TableName(.ip6, "kube-proxy")]
        return try socket.tables().filter(own.contains)
    }

    private func foreignTables() throws(KernelError) -> [TableName] {
        try socket.tables().filter { table in
            [.ip, .ip6].contains(table.family) && ["nat", "filter", "mangle", "raw"].contains(table.name)
        }
    }

    private struct Plan {
        /// Rules of the base chains that lead into kube-proxy's chains.
        var rules: [NftablesSocket.RulePlace] = []
        var removable: [String] = []
        /// Chains that others use, each with one that does.
        var kept: [String: String] = [:]
    }

    private func chains(of table: TableName) throws(KernelError) -> Plan {
        guard let ruleset = try socket.observe(table, elements: false) else { return Plan() }
        let own = Set(ruleset.chains.keys.filter(Self.isName))
        var plan = Plan()
        guard !own.isEmpty else { return plan }
        for (name, chain) in ruleset.chains where !own.contains(name) && chain.hook == nil {
            for target in chain.rules.flatMap(\.targets) where own.contains(target) { plan.kept[target] = name }
        }
        // What marks packets to be masqueraded is nothing without what masquerades them.
        if let user = plan.kept["KUBE-MARK-MASQ"], own.contains("KUBE-POSTROUTING") {
            plan.kept["KUBE-POSTROUTING"] = user
        }
        var open = Array(plan.kept.keys)
        while let name = open.popLast() {
            for target in ruleset.chains[name]?.rules.flatMap(\.targets) ?? []
            where own.contains(target) && plan.kept[target] == nil {
                plan.kept[target] = name
                open.append(target)
            }
        }
        plan.removable = own.filter { plan.kept[$0] == nil }.sorted()
        for (name, chain) in ruleset.chains where chain.hook != nil {
            for rule in chain.rules where rule.targets.contains(where: { own.contains($0) && plan.kept[$0] == nil }) {
                if let handle = rule.handle { plan.rules.append(.init(chain: name, handle: handle)) }
            }
        }
        return plan
    }

    /// Whether kube-proxy alone gives a chain that name, in one of its modes and of any version.
    private static func isName(_ name: String) -> Bool {
        let names: Set = [
            "KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ",
            "KUBE-FORWARD", "KUBE-PROXY-FIREWALL", "KUBE-PROXY-CANARY", "KUBE-LOAD-BALANCER", "KUBE-NODE-PORT",
            "KUBE-SOURCE-RANGES-FIREWALL", "KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER",
        ]
        let beginnings = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-FW-", "KUBE-EXT-", "KUBE-XLB-"]
        return names.contains(name)
            || beginnings.contains { name.hasPrefix($0) && name.utf8.count == $0.utf8.count + 16 }
    }
}

extension Rule {
    /// The chains it leads to.
    fileprivate var targets: [String] {
        instructions.compactMap { instruction in
            switch instruction {
            case .verdict(.jump(let chain)), .verdict(.goto(let chain)): chain
            default: nil
            }
        }
    }
}
