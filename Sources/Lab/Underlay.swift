import KernelInterface
import NetworkAddresses
import RouteNetlink
import SystemPackage

/// The network beneath a lab: a bridge in a namespace of its own, and on it the nodes.
///
/// It stands for the data centre's network. It knows the nodes' addresses and nothing of pods.
struct Underlay {
    let name: LabName
    let network: LabNetwork

    private static let bridge = InterfaceName("underlay")!
    static let nodeInterface = InterfaceName("eth0")!
    private static let loopback = InterfaceName("lo")!

    /// Makes the bridge and its namespace.
    func make() throws(KernelError) {
        let namespace = try NetworkNamespace.create(named: name.underlayNamespace)
        try prepareSettings(of: namespace)
        let socket = try namespace.withEntered { () throws(KernelError) in
            // What no node answers for is refused and not swallowed: a pod that calls the outside learns it at once.
            try? KernelSetting.write(["net", "ipv4", "ip_forward"], "1")
            try? KernelSetting.write(["net", "ipv6", "conf", "all", "forwarding"], "1")
            return try RouteSocket.open()
        }
        try socket.setUp(Self.loopback)
        try socket.addBridge(NewLink(Self.bridge, isUp: true))
        let bridge = try socket.index(of: Self.bridge)
        for gateway in network.gateways { try socket.add(InterfaceAddress(gateway, link: bridge)) }
    }

    /// Makes a node's namespace and joins it to the bridge.
    func join(_ node: LabNetwork.NodeAddresses) throws(KernelError) {
        guard let underlay = try NetworkNamespace.open(named: name.underlayNamespace),
            // A node's name fits an interface's: `node-` and at most three digits.
            let port = InterfaceName(node.name)
        else { throw KernelError(operation: "join \(node.name) to the underlay", errno: .noSuchFileOrDirectory) }
        let namespace = try NetworkNamespace.create(named: name.namespace(ofNode: node.name))
        try prepareSettings(of: namespace)
        let bridgeSide = try underlay.withEntered { () throws(KernelError) in try RouteSocket.open() }
        let nodeSide = try namespace.withEntered { () throws(KernelError) in try RouteSocket.open() }
        try nodeSide.setUp(Self.loopback)
        try bridgeSide.addVeth(
            NewLink(port, isUp: true, bridge: try bridgeSide.index(of: Self.bridge)),
            peer: NewLink(Self.nodeInterface, isUp: true), in: namespace)
        let interface = try nodeSide.index(of: Self.nodeInterface)
        for address in node.interface { try nodeSide.add(InterfaceAddress(address, link: interface)) }
        for gateway in network.gateways {
            guard let anywhere = IPPrefix(gateway.family == .ipv4 ? "0.0.0.0/0" : "::/0") else { continue }
            try nodeSide.add(Route(to: anywhere, via: gateway.address, link: interface))
        }
    }

    /// Makes a fresh namespace independent of how the machine is set.
    ///
    /// A new namespace takes some of the machine's settings over, and the lab is to behave alike on all machines.
    /// Machines where a setting is missing or may not be written have their reasons; the lab then has what they give.
    private func prepareSettings(of namespace: borrowing NetworkNamespace) throws(KernelError) {
        try namespace.withEntered { () throws(KernelError) in
            // First, because writing it resets others. The agent switches it on where packets are to be forwarded.
            try? KernelSetting.write(["net", "ipv4", "ip_forward"], "0")
            for scope in ["all", "default"] {
                try? KernelSetting.write(["net", "ipv4", "conf", scope, "rp_filter"], "0")
                try? KernelSetting.write(["net", "ipv6", "conf", scope, "disable_ipv6"], "0")
                // Nobody else can have the address: waiting a second for an objection would only cost time.
                try? KernelSetting.write(["net", "ipv6", "conf", scope, "accept_dad"], "0")
            }
        }
    }
}

extension RouteSocket {
    func index(of name: InterfaceName) throws(KernelError) -> Int32 {
        guard let link = try link(named: name) else {
            throw KernelError(operation: "look up link \(name)", errno: .noSuchDevice)
        }
        return link.index
    }

    func setUp(_ name: InterfaceName) throws(KernelError) {
        try change(link: try index(of: name), LinkChange(isUp: true))
    }
}
