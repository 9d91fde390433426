import Foundation
import KubernetesObjects
import NetworkAddresses
import PacketPath
import RouteNetlink
import Testing

private func json(_ trace: Trace) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(TraceDocument(trace)), as: UTF8.self)
}

/// Every key there is, by its path; elements of lists as `[]`.
private func paths(_ value: Any, _ path: String = "") -> Set<String> {
    switch value {
    case let object as [String: Any]:
        object.reduce(into: []) { $0.formUnion(paths($1.value, path.isEmpty ? $1.key : "\(path).\($1.key)")) }
    case let list as [Any]: list.reduce(into: list.isEmpty ? [] : []) { $0.formUnion(paths($1, path + "[]")) }
    default: [path]
    }
}

@Suite struct TraceDocumentTests {
    let web = TraceRequest.Source.pod(NamespacedName("shop/web-0"))

    @Test func `a document, whole`() throws {
        let request = TraceRequest(from: web, to: .pod(NamespacedName("pay/api-1")), port: "8080", .udp)
        let trace = try trace(request, in: broken(Shop.web0) { $0.routes = [] })
        #expect(
            try json(trace) == """
                {
                  "apiVersion" : "diag.fairlead.dev/v1",
                  "kind" : "Trace",
                  "spec" : {
                    "family" : "IPv4",
                    "from" : "shop/web-0",
                    "mode" : "static",
                    "protocol" : "udp",
                    "to" : "pay/api-1:8080"
                  },
                  "status" : {
                    "branches" : [
                      {
                        "at" : "shop/web-0",
                        "hops" : [
                          {
                            "decision" : "broken",
                            "evidence" : {
                              "source" : "kernel-lookup"
                            },
                            "netns" : "pod shop/web-0",
                            "node" : "node-1",
                            "owner" : [

                            ],
                            "packetIn" : {
                              "dport" : 8080,
                              "dst" : "10.244.2.3",
                              "sport" : 40000,
                              "src" : "10.244.1.2"
                            },
                            "seq" : 1,
                            "stage" : "route",
                            "text" : "no route to 10.244.2.3"
                          }
                        ],
                        "reasonCode" : "NoRoute",
                        "reply" : [

                        ],
                        "summary" : "shop/web-0: no route to 10.244.2.3",
                        "verdict" : "Broken",
                        "warnings" : [

                        ]
                      }
                    ],
                    "exitCode" : 3,
                    "reasonCode" : "NoRoute",
                    "summary" : "shop/web-0: no route to 10.244.2.3",
                    "verdict" : "Broken"
                  }
                }
                """)
    }

    @Test func `the keys are these and no others`() throws {
        let denied = try trace(
            TraceRequest(from: web, to: .service(NamespacedName("pay/api")), port: "80", backend: "api-1"),
            in: Shop.cluster(team: "store", policies: Shop.policies))
        let admitted = try trace(
            TraceRequest(from: web, to: .service(NamespacedName("pay/api")), port: "80"),
            in: {
                var cluster = Shop.cluster(policies: Shop.policies)
                cluster.edit(Shop.node2) { $0.allLinks[1].mtu = 1400 }
                return cluster
            }())
        let keys = try [denied, admitted].reduce(into: Set<String>()) {
            $0.formUnion(paths(try JSONSerialization.jsonObject(with: Data(try json($1).utf8))))
        }
        let packet = ["src", "sport", "dst", "dport"]
        let hop =
            ["seq", "node", "netns", "stage", "decision", "text", "hook", "priority", "iif", "oif"]
            + packet.map { "packetIn.\($0)" } + packet.map { "packetOut.\($0)" }
            + packet.filter { $0 != "sport" }.map { "outer.\($0)" }
            + ["owner[].kind", "owner[].namespace", "owner[].name", "owner[].role", "owner[].rulePath"]
            // Only a rule of a kernel has a handle.
            + ["evidence.source", "evidence.table", "evidence.chain", "evidence.generation", "evidence.rule"]
        let answer = hop.filter { !$0.hasPrefix("owner") }
        let branch =
            ["backend.name", "backend.service", "backend.pod", "backend.number", "backend.count"]
            + ["verdict", "reasonCode", "summary", "at", "warnings[].reasonCode", "warnings[].text"]
            + ["nearMiss.policy", "nearMiss.rulePath", "nearMiss.failed[]", "nearMiss.text", "nearMiss.options[]"]
            + hop.map { "hops[].\($0)" } + answer.map { "reply[].\($0)" }
        let all =
            ["apiVersion", "kind", "spec.from", "spec.to", "spec.protocol", "spec.family", "spec.backend", "spec.mode"]
            + ["status.verdict", "status.reasonCode", "status.summary", "status.exitCode"]
            + branch.map { "status.branches[].\($0)" }
        #expect(keys.sorted() == all.sorted())
    }

    @Test func `a document is read back as it was written`() throws {
        let trace = try trace(
            TraceRequest(from: web, to: .service(NamespacedName("pay/api")), port: "80"), in: Shop.cluster())
        let document = TraceDocument(trace)
        #expect(try JSONDecoder().decode(TraceDocument.self, from: JSONEncoder().encode(document)) == document)
    }

    @Test func `colour only repeats what the marks say`() throws {
        let trace = try trace(
            TraceRequest(from: web, to: .service(NamespacedName("pay/api")), port: "80"),
            in: broken(Shop.api1) { $0.sockets = [:] })
        let coloured = TraceText(isColoured: true).text(trace)
        #expect(coloured.contains("\u{1b}[33m✗ PARTIAL\u{1b}[0m"))
        #expect(coloured.contains("\u{1b}[31m✗\u{1b}[0m listener"))
        #expect(coloured.replacing(/\u{1b}\[\d+m/, with: "") == TraceText().text(trace))
    }
}
