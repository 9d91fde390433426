public import KernelInterface
public import NetworkAddresses
internal import Nftables
internal import PolicyRules
internal import RouteNetlink
internal import ServiceRules
internal import SystemPackage

/// Removes what the agent made on this node, of whichever run: its tables, its VXLAN device, its routes to other nodes.
///
/// What the CNI plugins made stays, because pods use it, and so do settings of the kernel.
///
/// - Parameter device: The overlay's.
/// - Returns: What was removed, in words; nothing where nothing was there.
public func removeEverythingOfTheAgent(device: InterfaceName) throws(KernelError) -> [String] {
    var removed: [String] = []
    let tables = try NftablesSocket.open()
    let present = try tables.tables()
    for table in [ServiceTable.name, PolicyTable.name] where present.contains(table) {
        try remove(table, by: tables)
        removed.append("table \(table)")
    }
    let links = try RouteSocket.open()
    for route in try links.routes(origin: .fairlead) where route.gateway != nil {
        if try links.remove(route) { removed.append("route to \(route.destination)") }
    }
    if let link = try links.link(named: device), case .vxlan = link.kind, try links.deleteLink(index: link.index) {
        removed.append("device \(device)")
    }
    return removed
}

/// Removes a table, be it nobody's or that of an owner who has died.
private func remove(_ table: TableName, by socket: borrowing NftablesSocket) throws(KernelError) {
    do {
        return try socket.removeTable(table)
    } catch where error.errno == .notPermitted {}
    do {
        // Such a table obeys whoever takes its ownership over.
        try socket.apply([.addTable], to: table, owned: true)
        try socket.removeTable(table)
    } catch where error.errno == .notPermitted {
        throw KernelError(
            operation: "remove table \(table)", errno: error.errno,
            kernelMessage: "it belongs to a process that runs; end the agent first")
    }
}
