import KubernetesObjects
import NetworkAddresses
import Nftables
import ServiceRules
import Testing

/// Objects that are wrong, or that only an older API server let pass: what becomes of them and of those beside them.
@Suite struct BadInputTests {
    private let node = NodeContext(name: "n1", addresses: [IPAddress("172.30.0.11")!])

    private func service(_ name: String, _ spec: FieldValue) -> FieldValue {
        ["apiVersion": "v1", "kind": "Service", "metadata": ["namespace": "shop", "name": .string(name)], "spec": spec]
    }

    private func slice(
        _ name: String, of service: String?, type: String = "IPv4", _ endpoints: [FieldValue],
        ports: [FieldValue] = [["name": "", "port": 8080]]
    ) -> FieldValue {
        var metadata: FieldValue = ["namespace": "shop", "name": .string(name)]
        if let service { metadata["labels"] = [EndpointSlice.serviceNameLabel: .string(service)] }
        return [
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
            "addressType": .string(type), "endpoints": .array(endpoints), "ports": .array(ports),
        ]
    }

    /// The elements of the table made of these trees, and what it cost in notes.
    private func program(_ trees: [FieldValue]) -> (frontends: [String], endpoints: [String], notes: [String]) {
        var objects: [KubernetesObject] = []
        var notes: [Note] = []
        for tree in trees {
            let decoded = KubernetesObject.decode(tree, source: "")
            objects += decoded.objects
            notes += decoded.notes
        }
        let snapshot = ClusterSnapshot(objects)
        let table = serviceTable(
            services: snapshot.services.values, slices: snapshot.endpointSlices.values, on: node)
        func lines(_ name: String) -> [String] {
            let set = table.sets[name]!
            return set.elements.values.sorted { $0.key < $1.key }.map { element in
                set.definition.text(of: Element(element.key, element.value))
            }
        }
        return (lines("frontends4") + lines("frontends6"), lines("endpoints4") + lines("endpoints6"), notes.map(\.description))
    }

    private var web: FieldValue { service("web", ["clusterIP": "10.96.0.10", "ports": [["port": 80]]]) }
    private let served = ["10.96.0.10 . tcp . 80 : goto pick-1"]

    @Test func `leading zeros and host bits mean what they meant to old API servers`() {
        let old = service(
            "web", [
                "type": "LoadBalancer", "clusterIP": "010.096.000.010", "ports": [["port": 80]],
                "loadBalancerSourceRanges": ["010.0.0.1/8"],
            ])
        let plan = program([old, slice("web-1", of: "web", [["addresses": ["010.244.001.002"]], ["addresses": ["::ffff:10.244.1.3"]]])])
        #expect(plan.frontends == ["10.96.0.10 . tcp . 80 : goto pick-2"] && plan.notes == [])
        #expect(plan.endpoints == ["10.96.0.10 . tcp . 80 . 0 : 10.244.1.2 . 8080", "10.96.0.10 . tcp . 80 . 1 : 10.244.1.3 . 8080"])
    }

    @Test func `one object that cannot be used costs its note and nothing else`() {
        let wrong: [(FieldValue, String)] = [
            (service("bad", ["clusterIP": "10.96.0.300", "ports": [["port": 80]]]), "spec.clusterIP"),
            (service("bad", ["clusterIP": "10.96.0.11", "ports": [["port": 0]]]), "spec.ports[0].port: 0 is no port"),
            (service("Bad", ["clusterIP": "10.96.0.11", "ports": [["port": 80]]]), "metadata.name"),
            (service("", ["clusterIP": "10.96.0.11", "ports": [["port": 80]]]), "metadata.name"),
            (["apiVersion": "v1", "kind": "Service", "metadata": [:]], "metadata.name: is missing"),
            (service("bad", .null), "spec: is missing"),
            (slice("bad", of: "web", [["addresses": ["10.244.1.2.3"]]]), "endpoints[0].addresses[0]"),
            (slice("bad", of: "web", [["addresses": ["fd00::1"]]]), "endpoints[0]: fd00::1 is no IPv4 address"),
            (slice("bad", of: "web", [["addresses": ["10.244.1.9"]]], ports: [["port": 0]]), "ports[0].port: 0 is no port"),
            (slice("bad", of: "web", type: "IPX", []), "addressType"),
        ]
        for (object, note) in wrong {
            let plan = program([object, web, slice("web-1", of: "web", [["addresses": ["10.244.1.2"]]])])
            #expect(plan.frontends.contains(served[0]), "\(note)")
            #expect(plan.endpoints.contains("10.96.0.10 . tcp . 80 . 0 : 10.244.1.2 . 8080"), "\(note)")
            #expect(plan.endpoints.count == 1, "\(note)")
            #expect(plan.notes.count == 1 && plan.notes[0].contains(note), "\(plan.notes)")
        }
    }

    @Test func `a slice without a label, or of a service that is not there, serves nobody`() {
        let stray = [slice("a", of: nil, [["addresses": ["10.244.1.2"]]]), slice("b", of: "gone", [["addresses": ["10.244.1.3"]]])]
        let plan = program(stray + [web])
        #expect(plan.frontends == ["10.96.0.10 . tcp . 80 : goto refuse"] && plan.endpoints == [] && plan.notes == [])
    }

    @Test func `a thousand endpoints, twice over, are a thousand`() {
        let endpoints: [FieldValue] = (0..<1000).map { ["addresses": [.string("10.244.\($0 / 250).\($0 % 250 + 1)")]] }
        let plan = program([web, slice("a", of: "web", endpoints), slice("b", of: "web", endpoints.reversed())])
        #expect(plan.frontends == ["10.96.0.10 . tcp . 80 : goto pick-1000"] && plan.endpoints.count == 1000)
        #expect(Set(plan.endpoints.map { $0.split(separator: ":")[1] }).count == 1000)
    }

    @Test func `a slice of two families serves the one it says, and its notes stay few`() {
        let endpoints: [FieldValue] = (0..<1000).map {
            ["addresses": [.string($0 % 2 == 0 ? "10.244.\($0 / 250).\($0 % 250 + 1)" : "fd00::\($0)")]]
        }
        let plan = program([web, slice("a", of: "web", endpoints)])
        #expect(plan.frontends == ["10.96.0.10 . tcp . 80 : goto pick-500"] && plan.endpoints.count == 500)
        #expect(plan.notes.count == 9 && plan.notes.last == "EndpointSlice shop/a: 492 more fields like these are passed over")
    }

    @Test func `a service of one family passes the other's slices over`() {
        let plan = program([
            web, slice("a", of: "web", type: "IPv6", [["addresses": ["fd00::1"]]]),
            slice("b", of: "web", [["addresses": ["10.244.1.2"]]], ports: [["name": "", "port": 8080], ["name": "", "port": 8081]]),
            slice("c", of: "web", [["addresses": ["10.244.1.4"]]], ports: [["name": "other", "port": 8080]]),
        ])
        #expect(plan.frontends == ["10.96.0.10 . tcp . 80 : goto pick-2"] && plan.notes == [])
        #expect(plan.endpoints == ["10.96.0.10 . tcp . 80 . 0 : 10.244.1.2 . 8080", "10.96.0.10 . tcp . 80 . 1 : 10.244.1.2 . 8081"])
    }
}
