import KubernetesObjects
import Lab
import NetworkAddresses
import Testing

struct ServiceAddressingTests {
    private func service(_ name: String, _ spec: FieldValue = [:]) throws -> (service: Service, tree: FieldValue) {
        var spec = spec
        if spec["ports"] == nil { spec["ports"] = [["port": 80, "appProtocol": "http"]] }
        let tree: FieldValue = [
            "apiVersion": "v1", "kind": "Service", "metadata": ["namespace": "shop", "name": .string(name)],
            "spec": spec,
        ]
        guard case .service(let service)? = KubernetesObject.decode(tree, source: "").objects.first else {
            throw Unreadable()
        }
        return (service, tree)
    }

    private struct Unreadable: Error {}

    private func previous(_ addressing: ServiceAddressing) -> [NamespacedName: Service] {
        Dictionary(uniqueKeysWithValues: addressing.services.map { ($0.key, $0.service) })
    }

    @Test func `a service gets an address of each family, which its manifest holds`() throws {
        let addressing = ServiceAddressing([try service("web")])
        #expect(addressing.notes.isEmpty)
        let web = try #require(addressing.services.first)
        #expect(web.service.clusterIPs.map(\.family) == [.ipv4, .ipv6])
        #expect(IPPrefix("10.96.0.0/16")!.contains(web.service.clusterIPs[0]))
        #expect(IPPrefix("fd00:10:96::/112")!.contains(web.service.clusterIPs[1]))
        let addresses = web.service.clusterIPs.map { FieldValue.string($0.description) }
        #expect(
            web.tree["spec"] == [
                "ports": [["port": 80, "appProtocol": "http"]], "clusterIP": addresses[0],
                "clusterIPs": .array(addresses),
                "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack",
            ])
        let decoded = KubernetesObject.decode(web.tree, source: "")
        #expect(decoded.notes.isEmpty)
        guard case .service(let again)? = decoded.objects.first else {
            Issue.record("no service")
            return
        }
        #expect(again.clusterIPs == web.service.clusterIPs)
        #expect(ServiceAddressing([try service("web")]).services == addressing.services)
        #expect(ServiceAddressing([(again, web.tree)]).services.map(\.tree) == [web.tree])
    }

    @Test(
        arguments: [
            ([:], ["IPv4", "IPv6"]), (["ipFamilies": ["IPv6"]], ["IPv6"]),
            (["ipFamilies": ["IPv6", "IPv4"]], ["IPv6", "IPv4"]),
            (["ipFamilyPolicy": "SingleStack"], ["IPv4"]),
            (["ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv6"]], ["IPv6"]),
            (["ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6"]], ["IPv6", "IPv4"]),
            (["ipFamilyPolicy": "RequireDualStack"], ["IPv4", "IPv6"]),
            (["clusterIP": "fd00:10:96::7"], ["IPv6", "IPv4"]),
            (["clusterIP": "fd00:10:96::7", "ipFamilyPolicy": "SingleStack"], ["IPv6"]),
            (["clusterIP": "None"], []), (["type": "ExternalName"], []),
        ] as [(FieldValue, [String])])
    func `families are those that are asked for`(spec: FieldValue, families: [String]) throws {
        let addressing = ServiceAddressing([try service("web", spec)])
        #expect(addressing.notes.isEmpty)
        #expect(addressing.services[0].service.clusterIPs.map(\.family.description) == families)
    }

    @Test func `a cluster of one family gives addresses of that`() throws {
        let addressing = ServiceAddressing(
            [try service("a"), try service("b", ["ipFamilyPolicy": "RequireDualStack"])],
            serviceCIDRs: [IPPrefix("fd00::/112")!])
        #expect(addressing.services.map { $0.service.clusterIPs.map(\.family) } == [[.ipv6], [.ipv6]])
        #expect(
            addressing.notes.map(\.description) == [
                "Service shop/b: spec.ipFamilyPolicy: RequireDualStack, but there are service networks of one family only"
            ])
    }

    @Test func `what is written is given, and to the first who wrote it`() throws {
        let spec: FieldValue = [
            "type": "NodePort", "clusterIP": "10.96.0.10", "ports": [["port": 80, "nodePort": 30080]],
        ]
        let addressing = ServiceAddressing([try service("b", spec), try service("a", spec)])
        #expect(
            addressing.notes.map(\.description) == [
                "Service shop/b: spec.clusterIPs: 10.96.0.10 belongs to Service shop/a; it is not used",
                "Service shop/b: spec.ports[0].nodePort: 30080/tcp belongs to Service shop/a; it is not used",
            ])
        #expect(addressing.services[0].service.clusterIP(of: .ipv4) == IPAddress("10.96.0.10"))
        #expect(addressing.services[0].service.ports[0].nodePort == Port(30080))
        #expect(addressing.services[1].service.clusterIPs.count == 2)
        #expect(addressing.services[1].service.clusterIP(of: .ipv4) != IPAddress("10.96.0.10"))
        #expect(addressing.services[1].service.ports[0].nodePort != Port(30080))
        #expect(addressing.services[1].tree["spec"]?["ports"]?.array?[0]["nodePort"] != 30080)
    }

    @Test(
        arguments: [
            (
                ["clusterIP": "10.97.0.1"],
                "spec.clusterIPs: 10.97.0.1 is not in 10.96.0.0/16 and fd00:10:96::/112; it is not used"
            ),
            (
                ["clusterIP": "10.96.0.0"],
                "spec.clusterIPs: 10.96.0.0 is not in 10.96.0.0/16 and fd00:10:96::/112; it is not used"
            ),
            (
                ["clusterIPs": ["10.96.0.9"], "ipFamilies": ["IPv6"]],
                "spec.clusterIPs: 10.96.0.9 is of a family that ipFamilies leaves out; it is not used"
            ),
            (
                ["ports": [["port": 80, "nodePort": 30080]]],
                "spec.ports[0].nodePort: 30080 is of no use: the type is neither NodePort nor LoadBalancer"
            ),
            (
                ["type": "NodePort", "ports": [["port": 80, "nodePort": 80]]],
                "spec.ports[0].nodePort: 80 is not within 30000 to 32767; it is not used"
            ),
        ] as [(FieldValue, String)])
    func `what cannot be given is named`(spec: FieldValue, note: String) throws {
        let addressing = ServiceAddressing([try service("web", spec)])
        #expect(addressing.notes.map(\.description) == ["Service shop/web: " + note])
        #expect(!addressing.services[0].service.clusterIPs.isEmpty)
    }

    @Test func `node ports are given to the types that have them`() throws {
        let ports: FieldValue = [
            ["name": "a", "port": 80], ["name": "b", "port": 53, "protocol": "UDP"], ["name": "c", "port": 53],
        ]
        for type in ["NodePort", "LoadBalancer"] {
            let addressing = ServiceAddressing([
                try service("web", ["type": .string(type), "ports": ports, "externalTrafficPolicy": "Local"])
            ])
            let web = addressing.services[0]
            let numbers = web.service.ports.compactMap(\.nodePort)
            #expect(numbers.count == 3)
            #expect(numbers.allSatisfy { (30000...32767).contains($0.rawValue) })
            #expect(
                web.tree["spec"]?["ports"]?.array?.map { $0["nodePort"] } == numbers.map { .integer(Int($0.rawValue)) })
            #expect((web.service.healthCheckNodePort != nil) == (type == "LoadBalancer"))
        }
        #expect(
            ServiceAddressing([try service("web", ["ports": ports])]).services[0].service.ports.allSatisfy {
                $0.nodePort == nil
            })
    }

    @Test func `a service keeps what it had, unless someone writes it down`() throws {
        let spec: FieldValue = ["type": "LoadBalancer", "externalTrafficPolicy": "Local"]
        let before = ServiceAddressing([try service("web", spec)])
        let old = before.services[0].service
        var moved = previous(before)
        let key = NamespacedName(namespace: "shop", name: "web")
        moved[key]?.clusterIPs = [IPAddress("10.96.200.1")!, IPAddress("fd00:10:96::c801")!]
        moved[key]?.ports[0].nodePort = Port(32000)!
        moved[key]?.healthCheckNodePort = Port(32001)!

        let kept = ServiceAddressing([try service("web", spec)], previous: moved).services[0].service
        #expect(kept.clusterIPs == moved[key]?.clusterIPs)
        #expect(kept.ports[0].nodePort == Port(32000))
        #expect(kept.healthCheckNodePort == Port(32001))

        let taken = ServiceAddressing(
            [
                try service("web", spec),
                try service(
                    "zzz",
                    ["type": "NodePort", "clusterIP": "10.96.200.1", "ports": [["port": 80, "nodePort": 32000]]]),
            ], previous: moved)
        #expect(taken.notes.isEmpty)
        #expect(taken.services[0].service.clusterIP(of: .ipv4) == old.clusterIP(of: .ipv4))
        #expect(taken.services[0].service.clusterIP(of: .ipv6) == IPAddress("fd00:10:96::c801"))
        #expect(taken.services[0].service.ports[0].nodePort == old.ports[0].nodePort)
    }

    @Test func `no two of many services have the same`() throws {
        let services = try (0..<600).map { try service("s\($0)", ["type": "NodePort"]) }
        let addressing = ServiceAddressing(
            services, serviceCIDRs: [IPPrefix("10.96.0.0/22")!, IPPrefix("fd00::/112")!])
        #expect(addressing.notes.isEmpty)
        #expect(Set(addressing.services.flatMap(\.service.clusterIPs)).count == 1200)
        #expect(Set(addressing.services.flatMap { $0.service.ports.map(\.nodePort) }).count == 600)
        #expect(addressing.services.allSatisfy { $0.service.clusterIPs[0] > IPAddress("10.96.0.63")! })
    }

    @Test func `a range that is full is named`() throws {
        let services = try (0..<20).map { try service("s\($0)", ["ipFamilyPolicy": "SingleStack"]) }
        let addressing = ServiceAddressing(services, serviceCIDRs: [IPPrefix("10.96.0.0/27")!])
        #expect(addressing.services.count { !$0.service.clusterIPs.isEmpty } == 15)
        #expect(addressing.notes.count == 5)
        #expect(addressing.notes.first?.message == "10.96.0.0/27 has no free address; the service has no IPv4 address")
    }
}
