import KubernetesObjects
import NetworkAddresses

/// Sees to it that what only one object may have, one has: cluster IPs, node ports, pod networks.
///
/// An API server hands these out; in a folder anyone may write anything. Of two objects that want the same, the one
/// written first keeps it, the other goes without and gets a note, and both work otherwise.
struct ExclusiveUse: Sendable {
    private enum Resource: Hashable {
        case clusterIP(IPAddress)
        case nodePort(Port, TransportProtocol)
    }

    private struct Placed {
        var object: KubernetesObject
        var place: ManifestPlace
    }

    private var placed: [ObjectReference: Placed] = [:]
    private var claimants: [Resource: Set<ObjectReference>] = [:]
    private var nodes: Set<ObjectReference> = []
    private var refusedCIDRs: [ObjectReference: [IPPrefix]] = [:]
    private var notesOfObject: [ObjectReference: [Note]] = [:]
    private var touched: Set<ObjectReference> = []

    /// What is wrong between objects.
    var notes: [Note] { notesOfObject.values.flatMap(\.self) }

    mutating func set(_ object: KubernetesObject, at place: ManifestPlace) {
        let reference = object.reference
        if let before = placed[reference] {
            guard before.object != object || before.place != place else { return }
            release(before.object)
        }
        placed[reference] = Placed(object: object, place: place)
        for resource in Self.resources(of: object) {
            claimants[resource, default: []].insert(reference)
            touched.formUnion(claimants[resource] ?? [])
        }
        if case .node = object { nodes.insert(reference) }
        touched.insert(reference)
    }

    mutating func remove(_ reference: ObjectReference) {
        guard let before = placed.removeValue(forKey: reference) else { return }
        release(before.object)
        touched.insert(reference)
    }

    private mutating func release(_ object: KubernetesObject) {
        for resource in Self.resources(of: object) {
            claimants[resource]?.remove(object.reference)
            touched.formUnion(claimants[resource] ?? [])
            if claimants[resource]?.isEmpty == true { claimants[resource] = nil }
        }
        nodes.remove(object.reference)
    }

    /// The objects for which something may have changed since the last call; their notes are made anew.
    mutating func takeTouched() -> Set<ObjectReference> {
        if touched.contains(where: { $0.kind == .node }) {
            shareOutPodCIDRs()
            touched.formUnion(nodes)
        }
        defer { touched = [] }
        for reference in touched {
            let notes = placed[reference].map { resolve($0).notes } ?? []
            notesOfObject[reference] = notes.isEmpty ? nil : notes
        }
        return touched
    }

    /// The object with what it may have, nil where there is none.
    subscript(reference: ObjectReference) -> KubernetesObject? {
        placed[reference].map { resolve($0).object }
    }

    private static func resources(of object: KubernetesObject) -> [Resource] {
        guard case .service(let service) = object else { return [] }
        return service.clusterIPs.map(Resource.clusterIP)
            + service.ports.compactMap { port in port.nodePort.map { .nodePort($0, port.protocol) } }
    }

    private func resolve(_ placed: Placed) -> (object: KubernetesObject, notes: [Note]) {
        switch placed.object {
        case .service(let service): resolve(service, of: placed)
        case .node(let node): resolve(node, of: placed)
        case .namespace, .pod, .endpointSlice, .networkPolicy, .serviceCIDR, .workload: (placed.object, [])
        }
    }

    // MARK: Services

    private func resolve(_ service: Service, of placed: Placed) -> (KubernetesObject, [Note]) {
        let reference = placed.object.reference
        var service = service
        var notes: [Note] = []
        func note(_ field: String, _ thing: String, _ owner: ObjectReference) {
            notes.append(
                Note(
                    source: placed.place.file, object: reference, field: field,
                    message: "\(thing) belongs to \(owner); it is not used here"))
        }
        service.clusterIPs.removeAll { address in
            guard let owner = owner(of: .clusterIP(address)), owner != reference else { return false }
            note("spec.clusterIPs", "\(address)", owner)
            return true
        }
        for (index, port) in service.ports.enumerated() {
            guard let number = port.nodePort else { continue }
            let isRepeated = service.ports[..<index].contains { $0.nodePort == number && $0.protocol == port.protocol }
            let owner = owner(of: .nodePort(number, port.protocol))
            guard let owner, owner != reference || isRepeated else { continue }
            note("spec.ports[\(index)].nodePort", "\(number)/\(port.protocol)", owner)
            service.ports[index].nodePort = nil
        }
        return (.service(service), notes)
    }

    private func owner(of resource: Resource) -> ObjectReference? {
        let places = (claimants[resource] ?? []).compactMap { reference in
            placed[reference].map { (place: $0.place, reference: reference) }
        }
        return places.min { $0.place < $1.place }?.reference
    }

    // MARK: Nodes

    /// Gives each pod network to the first node that wants it.
    private mutating func shareOutPodCIDRs() {
        refusedCIDRs = [:]
        var given: [IPPrefix] = []
        for reference in nodesInOrder {
            guard case .node(let node)? = placed[reference]?.object else { continue }
            for cidr in node.podCIDRs {
                if given.contains(where: cidr.overlaps) {
                    refusedCIDRs[reference, default: []].append(cidr)
                } else {
                    given.append(cidr)
                }
            }
        }
    }

    private var nodesInOrder: [ObjectReference] {
        nodes.compactMap { reference in placed[reference].map { (reference, $0.place) } }
            .sorted { $0.1 < $1.1 }.map(\.0)
    }

    private func resolve(_ node: Node, of placed: Placed) -> (KubernetesObject, [Note]) {
        guard let refused = refusedCIDRs[placed.object.reference] else { return (placed.object, []) }
        var usable = node
        var notes: [Note] = []
        for cidr in refused {
            if let index = usable.podCIDRs.lastIndex(of: cidr) { usable.podCIDRs.remove(at: index) }
            let others = nodesInOrder.compactMap { reference -> (ObjectReference, IPPrefix)? in
                guard case .node(let other)? = self.placed[reference]?.object,
                    let overlapped = other.podCIDRs.first(where: cidr.overlaps)
                else { return nil }
                return (reference, overlapped)
            }
            guard let (owner, overlapped) = others.first else { continue }
            notes.append(
                Note(
                    source: placed.place.file, object: placed.object.reference, field: "spec.podCIDRs",
                    message: "\(cidr) overlaps \(overlapped) of \(owner); it is not used"))
        }
        return (.node(usable), notes)
    }
}
