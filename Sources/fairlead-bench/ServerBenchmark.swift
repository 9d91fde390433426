import ArgumentParser
import Foundation
import KernelInterface
import NetworkAddresses

/// Service proxies following a real API server: how long until they serve what it says.
struct ServerBenchmark: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "api",
        abstract:
            "Times the agent, and a peer's proxy, from process start to services that answer, with a real API server.",
        discussion: """
            Starts etcd and an API server, creates the objects, and runs each proxy in a network namespace of its own. \
            Time ends when connections to service addresses reach their endpoints: what is measured is seen from \
            outside and means the same for both. Needs curl, openssl and ip; a kube-proxy also nft.
            """)

    @Option(help: ArgumentHelp("The kube-apiserver to run.", valueName: "path"))
    var apiserver: String

    @Option(help: ArgumentHelp("The etcd to run; 3.5.13 or later, else lists are not streamed.", valueName: "path"))
    var etcd: String

    @Option(help: ArgumentHelp("A kube-proxy to run beside, in nftables mode.", valueName: "path"))
    var peerProxy: String?

    @Option(help: ArgumentHelp("The fairlead-agent to run; otherwise beside this program.", valueName: "path"))
    var agent: String?

    @Option(help: "How many services.")
    var services = 10_000

    @Option(help: "Endpoints of each.")
    var endpoints = 2

    @Option(help: "How often each proxy is started on an empty node.")
    var runs = 3

    @Option(help: "How many single changes to time.")
    var changes = 20

    func validate() throws {
        guard (1...60_000).contains(services), (1...100).contains(endpoints), runs > 0, changes > 0 else {
            throw ValidationError("1 to 60000 services, 1 to 100 endpoints, at least one run and one change")
        }
    }

    func run() async throws {
        let control = try ControlPlane(apiserver: apiserver, etcd: etcd)
        defer { control.end() }
        let version = try control.request("/version").answer.split(separator: "\"").first { $0.hasPrefix("v1.") } ?? ""
        print("\(services) services of \(endpoints) endpoints each, from an API server \(version) on the same machine")
        try control.create([
            (path: "/api/v1/namespaces", json: #"{"metadata":{"name":"bench"}}"#),
            (
                path: "/api/v1/nodes",
                json:
                    #"{"metadata":{"name":"n1"},"status":{"addresses":[{"type":"InternalIP","address":"172.30.0.2"}]}}"#
            ),
        ])
        let objects = ServedObjects(services: services, endpoints: endpoints)
        try control.create(objects.all)
        let own = agent ?? URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent().path + "/fairlead-agent"
        var rivals = [try ServiceProxy(.fairlead, own, number: 0, control: control)]
        if let peerProxy { rivals.append(try ServiceProxy(.kubeProxy, peerProxy, number: 1, control: control)) }
        for _ in 0..<runs {
            for rival in rivals { try rival.fromEmpty(objects) }
        }
        for rival in rivals { try await rival.changed(objects, times: changes) }
        for rival in rivals { rival.printFigures() }
        if rivals.count == 2 { rivals[1].printRatio(to: rivals[0]) }
    }
}

/// The objects of a made-up cluster, as JSON.
struct ServedObjects {
    let services: Int
    let endpoints: Int

    static let slices = "/apis/discovery.k8s.io/v1/namespaces/bench/endpointslices"

    /// Every service with its slice.
    var all: [(path: String, json: String)] {
        (0..<services).flatMap { number in
            [
                (path: "/api/v1/namespaces/bench/services", json: service(number)),
                (path: Self.slices, json: slice(number)),
            ]
        }
    }

    func address(_ number: Int) -> IPAddress { IPAddress("10.100.0.0")!.advanced(by: UInt128(number + 1))! }

    /// Some services from all over.
    var sample: [Int] { (0..<8).map { services * $0 / 8 } + [services - 1] }

    private func service(_ number: Int) -> String {
        """
        {"metadata":{"name":"service-\(number)","labels":{"app":"app-\(number)"}},"spec":{"clusterIP":"\(address(number))",\
        "ports":[{"name":"http","port":80,"targetPort":8080}],"selector":{"app":"app-\(number)"}}}
        """
    }

    private func slice(_ number: Int) -> String {
        let members = (0..<endpoints).map { index in
            let address = IPAddress("10.128.0.0")!.advanced(by: UInt128(number * endpoints + index))!
            return """
                {"addresses":["\(address)"],"conditions":{"ready":true,"serving":true,"terminating":false},"nodeName":"n2",\
                "targetRef":{"kind":"Pod","namespace":"bench","name":"app-\(number)-\(index)"}}
                """
        }
        return """
            {"metadata":{"name":"service-\(number)-1","labels":{"kubernetes.io/service-name":"service-\(number)"}},\
            "addressType":"IPv4","ports":[{"name":"http","port":8080,"protocol":"TCP"}],"endpoints":[\(members.joined(separator: ","))]}
            """
    }
}
