import KubernetesObjects
import NetworkAddresses
import PacketPath
import RouteNetlink
import Testing

@testable import fairlead

@Suite struct TraceNamesTests {
    @Test(
        arguments: [
            ("web-0", TraceEnd.Subject.object(.pod, NamespacedName("shop/web-0")), nil),
            ("pod/web-0", .object(.pod, NamespacedName("shop/web-0")), nil),
            ("pay/pod/api-0:8080", .object(.pod, NamespacedName("pay/api-0")), "8080"),
            ("svc/api:http", .object(.service, NamespacedName("shop/api")), "http"),
            ("services/api.pay:80", .object(.service, NamespacedName("pay/api")), "80"),
            ("svc/api.pay.svc.cluster.local:80", .object(.service, NamespacedName("pay/api")), "80"),
            ("deploy/web", .object(.deployment, NamespacedName("shop/web")), nil),
            ("node/node-1:22", .object(.node, NamespacedName(namespace: "", name: "node-1")), "22"),
            ("10.96.0.10:80", .address(ip("10.96.0.10")), "80"),
            ("10.96.0.10", .address(ip("10.96.0.10")), nil),
            ("[fd00::1]:80", .address(ip("fd00::1")), "80"),
            ("fd00::1", .address(ip("fd00::1")), nil),
        ] as [(String, TraceEnd.Subject, String?)])
    func `an end of a connection as people write it`(text: String, subject: TraceEnd.Subject, port: String?) throws {
        let end = try TraceEnd(text, namespace: "shop")
        #expect(end.subject == subject)
        #expect(end.port == port)
    }

    @Test(arguments: [
        ("", "\"\" names neither an object nor an address"), ("a/b/c/d", "\"a/b/c/d\" names neither"),
        ("pod//x", "\"pod//x\" names neither"), ("thing/x", "\"thing\" is no kind"),
        ("svc/api:", "\"svc/api:\" ends in a colon without a port"),
        ("[fd00::1", "\"[fd00::1\" has no closing bracket"),
        ("[fd00::1]80", "\"80\" behind \"[fd00::1]\" is no port"),
    ])
    func `what names nothing is refused in words`(text: String, words: String) {
        let error = #expect(throws: (any Error).self) { try TraceEnd(text, namespace: "shop") }
        #expect("\(error!)".hasPrefix(words), "\(error!)")
    }

    static let web = TraceRequest.Source.pod(NamespacedName("shop/web-0"))

    @Test(arguments: [
        (
            TraceRequest(from: .pod(NamespacedName("shop/web-9")), to: .address(ip("1.1.1.1")), port: "80"),
            "there is no pod shop/web-9; there is shop/web-0"
        ),
        (
            TraceRequest(from: .node("node-9"), to: .address(ip("1.1.1.1")), port: "80"),
            "there is no node node-9; there is node-1, node-2"
        ),
        (
            TraceRequest(from: web, to: .service(NamespacedName("pay/nope")), port: "80"),
            "there is no service pay/nope; there is pay/api, pay/idle"
        ),
        (
            TraceRequest(from: web, to: .service(NamespacedName("pay/api")), port: "70000"),
            "\"70000\" is no port: a number of 1 to 65535, or a name"
        ),
        (
            TraceRequest(from: web, to: .service(NamespacedName("pay/api")), .udp),
            "which port of svc pay/api? It has 80/tcp (http)"
        ),
        (
            TraceRequest(from: web, to: .pod(NamespacedName("pay/api-0")), port: "grpc"),
            "there is no port grpc of pod pay/api-0; there is http"
        ),
        (
            TraceRequest(from: web, to: .address(ip("1.1.1.1")), port: "http"),
            "\"http\" is no port: a number of 1 to 65535"
        ),
        (TraceRequest(from: web, to: .address(ip("1.1.1.1"))), "which port of 1.1.1.1? Write 1.1.1.1:PORT"),
        (
            TraceRequest(from: web, to: .service(NamespacedName("pay/api")), port: "80", backend: "api-7"),
            "svc pay/api:80 has no backend api-7; it has pay/api-0, pay/api-1"
        ),
    ])
    func `a question that cannot be asked is an error that says why`(request: TraceRequest, words: String) {
        #expect(throws: TraceError(words)) { try trace(request, in: Shop.cluster()) }
    }

    @Test func `the only port need not be named`() throws {
        let service = try trace(
            TraceRequest(from: Self.web, to: .service(NamespacedName("pay/api"))), in: Shop.cluster())
        #expect(service.to == "svc pay/api:80")
        let pod = try trace(TraceRequest(from: Self.web, to: .pod(NamespacedName("pay/api-0"))), in: Shop.cluster())
        #expect(pod.to == "pay/api-0:8080")
    }
}
