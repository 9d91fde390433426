internal import CNIProtocol
internal import NetworkAddresses
internal import RouteNetlink

extension AttachmentResult {
    /// The routes, if the kernel has room for their numbers.
    func checkedRoutes() throws(CNIError) -> [Route] {
        for (index, route) in routes.enumerated() {
            let numbers: [(String, Int?, ClosedRange<Int>)] = [
                ("mtu", route.mtu, 0...65_535), ("advmss", route.advertisedSegmentSize, 0...65_535),
                ("priority", route.priority, 0...Int(UInt32.max)), ("table", route.table, 0...Int(UInt32.max)),
                ("scope", route.scope, 0...255),
            ]
            for case (let key, let value?, let range) in numbers where !range.contains(value) {
                throw CNIError(
                    .invalidConfiguration,
                    "routes[\(index)].\(key): \(value) is not within \(range.lowerBound)…\(range.upperBound)")
            }
        }
        return routes
    }
}

extension AttachmentResult.Route {
    /// What the route says beyond where it leads. As in the reference plugins 0 says nothing, and is the main table.
    var traits: RouteTraits {
        let number = { (value: Int?) in value.flatMap(UInt32.init(exactly:)).flatMap { $0 == 0 ? nil : $0 } }
        let table = number(table)
        return RouteTraits(
            priority: number(priority), advertisedSegmentSize: number(advertisedSegmentSize),
            table: table == 254 ? nil : table, scope: scope.flatMap(UInt8.init(exactly:)))
    }

    /// The route as a step of an attachment whose addresses have these gateways.
    ///
    /// A route without a gateway goes by the first one of its family, unless it says that its destination is on the
    /// link (`RT_SCOPE_LINK`) or on this host.
    func planned(gateways: [IPAddress]) -> PlannedRoute {
        let isOnLink = (scope ?? 0) >= 253
        let implied = isOnLink ? nil : gateways.first { $0.family == destination.family }
        return PlannedRoute(
            to: destination, via: gateway ?? implied, origin: .administrator, mtu: mtu == 0 ? nil : mtu, traits: traits)
    }
}
