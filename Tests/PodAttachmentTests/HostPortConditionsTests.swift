import CNIProtocol
import NetworkAddresses
import Nftables
import PodAttachment
import Testing

private func configuration(_ keys: String) throws -> HostPortConfiguration {
    try HostPortConfiguration(
        request(
            #""runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}]}\#(keys.isEmpty ? "" : ", ")\#(keys)"#
        ).configuration)
}

@Suite struct HostPortConditionsTests {
    @Test(arguments: [
        (#"["ip", "saddr", "!=", "192.0.2.0/24"]"#, "ip saddr != 192.0.2.0/24"),
        (#"["ip saddr 192.0.2.1 ip daddr == 198.51.100.9/24"]"#, "ip saddr 192.0.2.1/32 ip daddr 198.51.100.0/24"),
        (#"["meta", "iifname", "\"eth1\""]"#, #"iifname "eth1""#),
        (#"["iifname != eth1", "tcp sport 1024-65535"]"#, #"iifname != "eth1" meta l4proto tcp th sport 1024-65535"#),
        (#"["udp dport != 53"]"#, "meta l4proto udp th dport != 53"),
        (#"["meta l4proto tcp th sport 7 meta mark 0x10"]"#, "meta l4proto tcp th sport 7 meta mark 0x00000010"),
        (#"["fib saddr type != local"]"#, "fib saddr type != local"),
        (#"["!", "-d", "192.0.2.0/24"]"#, "ip daddr != 192.0.2.0/24"),
        (
            #"["-s 10.0.0.0/8 ! -i lo -p tcp --sport 1:99 --dport 80"]"#,
            #"ip saddr 10.0.0.0/8 iifname != "lo" meta l4proto tcp th sport 1-99 th dport 80"#
        ),
    ])
    func `conditions are read in nft's words and in those of iptables`(list: String, text: String) throws {
        let statements = try configuration(#""conditionsV4": \#(list)"#).conditions[.ipv4] ?? []
        #expect(statements.map(\.text).joined(separator: " ") == text)
    }

    @Test(arguments: [
        (
            #""conditionsV4": ["ip saddr { 1.2.3.4, 5.6.7.8 }"]"#,
            #"conditionsV4: "ip saddr { 1.2.3.4, 5.6.7.8 }" is not understood at "{""#
        ),
        (#""conditionsV4": ["-m", "comment"]"#, #"conditionsV4: "-m comment" is not understood at "-m""#),
        (#""conditionsV4": ["ip6 saddr fd00::/8"]"#, #"conditionsV4: "ip6 saddr fd00::/8" is not understood at "ip6""#),
        (
            #""conditionsV6": ["-d", "192.0.2.0/24"]"#,
            #"conditionsV6: "-d 192.0.2.0/24" is not understood at "192.0.2.0/24""#
        ),
        (#""conditionsV4": ["ip saddr"]"#, #"conditionsV4: "ip saddr" is not understood at "its end""#),
        (#""conditionsV4": ["iifname eth*"]"#, #"is not understood at "eth*""#),
        (#""conditionsV4": ["tcp dport 99-1"]"#, #"is not understood at "99-1""#),
        (#""conditionsV4": ["drop"]"#, #"is not understood at "drop""#),
        (#""conditionsV4": ["!"]"#, #"is not understood at "its end""#),
    ])
    func `what is not understood is refused at the word`(keys: String, message: String) {
        let error = #expect(throws: CNIError.self) { try configuration(keys) }
        #expect(error?.code == .unsupportedField && error?.message.contains(message) == true, "\(error?.message ?? "")")
    }

    @Test func `a mapping with conditions has a gate, of its family and of its address`() throws {
        var all = try configuration(#""conditionsV4": ["iifname eth1"], "snat": false"#)
        all.mappings[0].hostAddress = IPAddress("192.0.2.1")
        all.mappings.append(PortMapping(Port(53)!, to: Port(53)!, .udp))
        let part = HostPortTable.contribution(
            of: all, to: [IPPrefix("10.1.2.3/32")!, IPPrefix("fd00::3/128")!],
            for: AttachmentTag(network: "pods", attachment))
        let chain = try #require(part.chains.keys.first)
        #expect(
            part.members.map { "\($0.set) \(HostPortTable.frame.sets[$0.set]!.definition.text(of: $0.element))" } == [
                #"bound4 192.0.2.1 . tcp . 8080 comment "pods/c1/eth0" : 10.1.2.3 . 80"#,
                #"bound-conditions4 192.0.2.1 . tcp . 8080 comment "pods/c1/eth0" : jump \#(chain)"#,
                #"ports4 udp . 53 comment "pods/c1/eth0" : 10.1.2.3 . 53"#,
                #"port-conditions4 udp . 53 comment "pods/c1/eth0" : jump \#(chain)"#,
                #"ports6 udp . 53 comment "pods/c1/eth0" : fd00::3 . 53"#,
            ])
        #expect(
            part.chains.values.map { $0.rules.map(\.text) } == [
                [#"iifname "eth1" return"#, #"accept comment "not iifname ?eth1?""#]
            ])
    }

    @Test(arguments: [
        (#""backend": "nftables", "markMasqBit": 5"#, ""), (#""backend": "iptables""#, ""),
        (#""externalSetMarkChain": "KUBE-MARK-MASQ""#, ""), (#""conditionsV4": [], "conditionsV6": null"#, ""),
        (#""backend": "ebpf""#, #"backend: unrecognized backend "ebpf""#),
        (#""markMasqBit": 32"#, "markMasqBit: 32: MasqMarkBit must be between 0 and 31"),
        (
            #""markMasqBit": 5, "externalSetMarkChain": "KUBE-MARK-MASQ""#,
            "markMasqBit: Cannot specify externalSetMarkChain and markMasqBit"
        ),
        (#""masqAll": "yes""#, #"masqAll: expected true or false, found "yes""#),
        (#""snat": 0"#, "snat: expected true or false, found 0"),
    ])
    func `keys about how are read and mean nothing`(keys: String, message: String) {
        do throws(any Error) {
            let read = try configuration(keys)
            #expect(message == "" && read.masquerades && !read.masqueradesAll && read.conditions.isEmpty)
        } catch {
            #expect((error as? CNIError)?.message == message)
        }
    }

    @Test func `masqAll masquerades nothing where snat is off`() throws {
        #expect(try configuration(#""masqAll": true"#).masqueradesAll)
        #expect(try !configuration(#""masqAll": true, "snat": false"#).masqueradesAll)
    }
}
