internal import KernelInterface
internal import NetworkAddresses
internal import OverlayRoutes
internal import RouteNetlink
internal import SystemPackage

/// The VXLAN device through which other nodes are reached.
struct OverlayDevice: ~Copyable {
    let configuration: OverlayConfiguration
    let features: LinkFeatures
    private var name: InterfaceName { configuration.device }

    /// Removes the device, where it is one of ours.
    func remove(over socket: borrowing RouteSocket, _ repairs: inout Repairs) throws(KernelError) {
        guard let link = try socket.link(named: name), case .vxlan = link.kind else { return }
        try socket.deleteLink(index: link.index)
        repairs.made()
    }

    /// Makes the device what it should be.
    func reconcile(
        _ wanted: OverlayPlan.Device, over socket: borrowing RouteSocket, _ repairs: inout Repairs
    ) throws(KernelError) -> Link {
        let link = try obtain(wanted, over: socket, &repairs)
        var change = LinkChange()
        if link.mac != wanted.mac { change.mac = wanted.mac }
        if link.mtu != wanted.mtu { change.mtu = wanted.mtu }
        if !link.isUp { change.isUp = true }
        if change != LinkChange() {
            try socket.change(link: link.index, change)
            repairs.made()
        }
        let present = Set(try socket.addresses(of: link.index).map(\.prefix).filter { !$0.address.isLinkLocal })
        for address in present.subtracting(wanted.addresses) {
            repairs.attempt { () throws(KernelError) in
                try socket.remove(InterfaceAddress(address, link: link.index))
            }
        }
        for address in wanted.addresses.subtracting(present) {
            repairs.attempt { () throws(KernelError) in try socket.add(InterfaceAddress(address, link: link.index)) }
        }
        return link
    }

    /// The device as it is, or made.
    private func obtain(
        _ wanted: OverlayPlan.Device, over socket: borrowing RouteSocket, _ repairs: inout Repairs
    ) throws(KernelError) -> Link {
        if let link = try socket.link(named: name) {
            if link.kind == .vxlan(wanted.vxlan) { return link }
            guard case .vxlan = link.kind else {
                throw KernelError(
                    operation: "add VXLAN device \(name)", errno: .fileExists,
                    kernelMessage: "a link of that name is no VXLAN device; delete or rename it")
            }
            // What makes a VXLAN device cannot be edited.
            try socket.deleteLink(index: link.index)
        }
        do throws(KernelError) {
            // Bound to no link: its packets go where the routes to the other nodes lead, also when those change.
            try socket.addVXLAN(NewLink(name, mac: wanted.mac, mtu: wanted.mtu, isUp: true), wanted.vxlan)
        } catch where error.errno == .fileExists {
            throw explaining(error, over: socket)
        }
        repairs.made()
        guard let link = try socket.link(named: name) else {
            throw KernelError(operation: "look up link \(name)", errno: .noSuchDevice)
        }
        return link
    }

    /// The kernel says only that something exists.
    private func explaining(_ error: KernelError, over socket: borrowing RouteSocket) -> KernelError {
        let rival = (try? socket.links())?.first { link in
            if case .vxlan(let vxlan) = link.kind { vxlan.vni == configuration.vni } else { false }
        }
        guard let rival else { return error }
        return KernelError(
            operation: error.operation, errno: error.errno,
            kernelMessage: "\(rival.name) has VNI \(configuration.vni); delete it, or choose another --vni on all nodes")
    }

    /// Settings of the device that are in files, in the calling thread's network namespace.
    func applySettings(_ repairs: inout Repairs) throws(KernelError) {
        let ipv4 = ["net", "ipv4", "conf"]
        // A program of another node may send under that node's address, which is not routed back through the tunnel:
        // strict filtering (1) would drop it, loose (2) asks only for any route. The greater of the two is in force.
        let strictest = try ["all", name.description].map { scope throws(KernelError) in
            try KernelSetting.read(ipv4 + [scope, "rp_filter"])
        }
        if strictest.contains("1"), !strictest.contains("2") {
            repairs.attempt { () throws(KernelError) in
                try KernelSetting.write(ipv4 + [name.description, "rp_filter"], "2")
            }
        }
        let acceptance = ["net", "ipv6", "conf", name.description, "accept_ra"]
        if let value = try KernelSetting.read(acceptance), value != "0" {
            repairs.attempt { () throws(KernelError) in try KernelSetting.write(acceptance, "0") }
        }
        if let isOn = configuration.checksumOffload, try features.transmitChecksumOffload(of: name) != isOn {
            repairs.attempt { () throws(KernelError) in
                try features.setTransmitChecksumOffload(of: name, to: isOn)
            }
        }
    }
}

extension IPAddress {
    fileprivate var isLinkLocal: Bool {
        if case .v6(let address) = self { address.isLinkLocal } else { false }
    }
}
