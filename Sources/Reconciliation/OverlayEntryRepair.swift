internal import KernelInterface
internal import KubernetesObjects
internal import NetworkAddresses
internal import OverlayRoutes
internal import RouteNetlink
internal import SystemPackage

extension RouteSocket {
    /// Makes the entries for other nodes' pods what they should be.
    ///
    /// Added inside out, so that a route never leads to an unknown neighbour, and removed outside in.
    ///
    /// - Parameter device: the index of the VXLAN device; nil without one.
    func reconcile(
        _ desired: OverlayEntries, on device: Int32?, _ repairs: inout Repairs
    ) throws(KernelError) {
        var present = OverlayEntries(routes: Set(try routes(origin: .fairlead).filter { $0.gateway != nil }))
        if let device {
            present.forwarding = Set(try forwardingEntries(link: device))
            // What the kernel keeps of its own accord (multicast, link-local) is not permanent, and not ours.
            present.neighbors = Set(try neighbors(link: device).filter { $0.state == .permanent })
        }
        for entry in desired.forwarding.subtracting(present.forwarding) {
            repairs.attempt { () throws(KernelError) in try replace(entry) }
        }
        for neighbor in desired.neighbors.subtracting(present.neighbors) {
            repairs.attempt { () throws(KernelError) in try replace(neighbor) }
        }
        add(desired.routes.subtracting(present.routes), besides: present.routes, &repairs)
        removeLeftovers(of: present, besides: desired, &repairs)
    }

    /// - Parameter present: our routes that are there. In their places ours are put, and in nobody else's.
    private func add(_ missing: Set<Route>, besides present: Set<Route>, _ repairs: inout Repairs) {
        let places = Set(present.map(\.destination))
        for route in missing {
            guard !places.contains(route.destination) else {
                repairs.attempt { () throws(KernelError) in try replace(route) }
                continue
            }
            do throws(KernelError) {
                try add(route)
                repairs.made()
            } catch where error.errno == .fileExists {
                repairs.notes.append(
                    Note(
                        object: nil,
                        message: "route \(route.destination): another program has a route to that network of pods; "
                            + "delete it, and this node's own takes its place"))
            } catch {
                repairs.failed(error)
            }
        }
    }

    private func removeLeftovers(
        of present: OverlayEntries, besides desired: OverlayEntries, _ repairs: inout Repairs
    ) {
        let destinations = Set(desired.routes.map(\.destination))
        // One with a destination that is still wanted has been replaced.
        for route in present.routes where !destinations.contains(route.destination) {
            repairs.attempt { () throws(KernelError) in try remove(route) }
        }
        let addresses = Set(desired.neighbors.map(\.address))
        for neighbor in present.neighbors
        where !addresses.contains(neighbor.address) && neighbor.mac?.isTunnelAddress == true {
            repairs.attempt { () throws(KernelError) in try remove(neighbor) }
        }
        for entry in present.forwarding.subtracting(desired.forwarding) where entry.mac.isTunnelAddress {
            repairs.attempt { () throws(KernelError) in try remove(entry) }
        }
    }
}
