import CNIProtocol
import KernelInterface
import Testing

@testable import fairlead_cni

/// Configurations that nobody would write.
@Suite(.needsRoot) struct MutationTests {
    private let whole = Array(
        #"""
        {"name":"n","cniVersion":"1.1.0","bridge":"br0","mtu":1400,"policyGate":"wait","overlay":"vxlan",
        "stateDir":"/nonexistent/s","ipam":{"type":"host-local","dataDir":"/nonexistent/x",
        "ranges":[[{"subnet":"10.1.0.0/24","rangeEnd":"10.1.0.9"}]],"routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1","priority":5,"table":100}]},
        "snat":true,"ingressRate":8000,"ingressBurst":8000,"macspoofchk":true,"vlan":5,"vlanTrunk":[{"minID":1,"maxID":9}],
        "ipMasq":true,"clusterCIDRs":["10.1.0.0/16"],"conditionsV4":["!","-d","10.9.9.9"],
        "runtimeConfig":{"mac":"02:00:00:00:00:01","bandwidth":{"egressRate":8000,"egressBurst":8000},"ips":["10.1.0.5"],"portMappings":[{"hostPort":8080,
        "containerPort":80,"protocol":"udp","hostIP":"10.9.9.9"}]},"prevResult":{"cniVersion":"1.0.0",
        "interfaces":[{"name":"eth0","sandbox":"/x"}],"ips":[{"address":"10.1.0.5/24"}]}}
        """#.utf8)

    @Test func `a thousand mutated configurations are a thousand answers of one document`() throws {
        let node = try Node()
        let alphabet = Array(#"{}[]",:0129-+.eE\u truefalsn/ax"#.utf8) + [0, 0x0a, 0x80, 0xff]
        var random = Numbers(state: 42)
        var refusals = 0
        for turn in 0..<1000 {
            var bytes = whole
            for _ in 0...Int.random(in: 0..<4, using: &random) {
                let place = Int.random(in: bytes.indices, using: &random)
                switch Int.random(in: 0..<4, using: &random) {
                case 0: bytes.remove(at: place)
                case 1: bytes.insert(alphabet.randomElement(using: &random)!, at: place)
                case 2: bytes[place] = alphabet.randomElement(using: &random)!
                default: bytes.insert(contentsOf: bytes[place...].prefix(20), at: place)
                }
            }
            let verb = ["ADD", "DEL", "CHECK", "GC", "STATUS"][turn % 5]
            for plugin in ["fairlead", "bridge", "ptp", "host-local", "static", "loopback", "portmap", "bandwidth"] {
                // Only these two would do as they are told, wherever the mutated path leads.
                if ["host-local", "portmap"].contains(plugin) && verb == "ADD" { continue }
                let environment = node.environment(verb, id: "c", interface: "eth0", netns: "/nonexistent/ns")
                let input = bytes
                let answer = try Answer(
                    try node.namespace.withEntered { () throws(KernelError) in
                        Invocation(arguments: [plugin], environment: environment).outcome { input }
                    })
                #expect(answer.isSuccess ? answer.json["code"] == nil : answer.code != nil)
                if !answer.isSuccess { refusals += 1 }
            }
        }
        #expect(refusals > 1000)
        #expect(try node.remains() == [])
    }

    /// The same numbers in every run, so that a failure can be found again (SplitMix64).
    private struct Numbers: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            state &+= 0x9e37_79b9_7f4a_7c15
            var value = state
            value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
            value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
            return value ^ value >> 31
        }
    }
}
