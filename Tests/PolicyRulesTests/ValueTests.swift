import KubernetesObjects
import NetworkAddresses
import Nftables
import Testing

@testable import PolicyRules

@Suite struct AddressRangesTests {
    @Test(arguments: [
        ("10.0.0.0/8", "10.0.0.0/8"), ("10.0.0.1/32", "10.0.0.1/32"), ("0.0.0.0/0", "0.0.0.0/0"), ("::/0", "::/0"),
        ("fd00::/8", "fd00::/8"), ("fd00::1/128", "fd00::1/128"),
    ])
    func `a block without exceptions is its prefix`(cidr: String, prefix: String) {
        #expect(AddressRanges(IPBlock(cidr: IPPrefix(cidr)!)).prefix == IPPrefix(prefix)!)
    }

    @Test func `what is left of a block is a prefix only where it is one`() {
        func prefix(_ cidr: String, _ except: String...) -> String? {
            AddressRanges(IPBlock(cidr: IPPrefix(cidr)!, except: except.map { IPPrefix($0)! })).prefix?.description
        }
        #expect(prefix("10.0.0.0/8", "10.128.0.0/9") == "10.0.0.0/9")
        #expect(prefix("10.0.0.0/8", "10.0.0.0/9") == "10.128.0.0/9")
        #expect(prefix("10.0.0.0/8", "10.0.0.0/10") == nil)
        #expect(prefix("10.0.0.0/8", "10.0.0.0/32") == nil)
        #expect(prefix("::/0", "8000::/1") == "::/1")
    }

    @Test(arguments: 1...50) func `an address is left where it is in the block and in no exception`(seed: Int) {
        var random = SeededGenerator(seed: UInt64(seed))
        func prefix(within length: ClosedRange<Int>) -> IPPrefix {
            let address = IPv4Address(rawValue: 0x0a00_0000 | UInt32.random(in: 0...0xff, using: &random))
            return IPPrefix(.v4(address), length: .random(in: length, using: &random))!.network
        }
        let block = IPBlock(cidr: prefix(within: 23...28), except: (0..<4).map { _ in prefix(within: 22...32) })
        let ranges = AddressRanges(block)
        for number in 0x09ff_ff00...UInt128(0x0a00_0300) {
            let address = IPAddress(number: number, family: .ipv4)!
            let expected = block.cidr.contains(address) && !block.except.contains { $0.contains(address) }
            #expect(ranges.ranges.contains { $0.contains(number) } == expected)
        }
        for (left, right) in zip(ranges.ranges, ranges.ranges.dropFirst()) {
            #expect(left.upperBound + 1 < right.lowerBound)
        }
    }
}

@Suite struct StableNumbersTests {
    @Test(arguments: 1...20) func `numbers follow from what is there, and no two are the same`(seed: Int) {
        var random = SeededGenerator(seed: UInt64(seed))
        var numbers = StableNumbers(bits: 6)
        var kept: [String] = []
        var holders: [UInt32: String] = [:]
        for _ in 1...100 {
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                if kept.count < 40, Bool.random(using: &random) {
                    kept.append("text \(Int.random(in: 0..<60, using: &random))")
                    numbers.retain(kept.last!)
                } else if let index = kept.indices.randomElement(using: &random) {
                    numbers.release(kept.remove(at: index))
                }
            }
            let changedHands = numbers.settle()
            let now = Dictionary(Set(kept).map { (numbers[$0], $0) }) { _, second in second }
            #expect(now.count == Set(kept).count)
            #expect(changedHands || !now.contains { holders[$0.key] != nil && holders[$0.key] != $0.value })
            holders = now
            var fresh = StableNumbers(bits: 6)
            for text in kept.shuffled(using: &random) { fresh.retain(text) }
            _ = fresh.settle()
            #expect(kept.allSatisfy { fresh[$0] == numbers[$0] })
        }
    }

    @Test func `a text has the same number in every process and at every time`() {
        var numbers = StableNumbers()
        for text in ["", "in shop|app=web"] { numbers.retain(text) }
        let changedHands = numbers.settle()
        #expect(!changedHands)
        #expect(["", "in shop|app=web"].map { String(numbers[$0], radix: 16) } == ["b9da8313", "6b07d312"])
    }
}

@Suite struct PolicyEpochTests {
    @Test func `the epoch stays in its field, goes round without 0, and is read back from the table`() throws {
        var epoch = try #require(PolicyEpoch(1, mask: 0x0000_0700))
        var marks: [UInt32] = []
        for _ in 1...8 {
            marks.append(epoch.mark.value)
            let table = PolicyTable.frame(on: PolicyNode(name: "n"), epoch: epoch)
            #expect(PolicyEpoch(in: table, mask: 0x0000_0700) == epoch)
            #expect(PolicyEpoch(in: table, mask: 0x0000_0f00) == nil)
            #expect(epoch.number(in: epoch.mark.value | 0xffff_f8ff) == epoch.number)
            #expect(epoch.reused == [1: 1...3, 4: 4...7][epoch.number])
            epoch = epoch.next
        }
        #expect(marks == [0x100, 0x200, 0x300, 0x400, 0x500, 0x600, 0x700, 0x100])
        #expect(PolicyEpoch(in: Ruleset(PolicyTable.name)) == nil)
    }

    @Test(arguments: [(0, 0xff), (256, 0xff), (1, 0), (1, 0x80), (1, 0x0f0f)] as [(UInt32, UInt32)])
    func `what is no epoch, or no field, is none`(number: UInt32, mask: UInt32) {
        #expect(PolicyEpoch(number, mask: mask) == nil)
    }

    @Test func `the widest and the narrowest field`() {
        #expect(PolicyEpoch(.max, mask: .max)?.next.number == 1)
        let epochs = (1...3).compactMap { PolicyEpoch($0, mask: 0xc000_0000) }
        #expect(epochs.last?.mark.value == 0xc000_0000 && epochs.map(\.reused) == [1...1, 2...3, nil])
    }
}

@Suite struct NoteTests {
    @Test func `ports that a pod does not have, and addresses that two claim, are named`() {
        var compiler = PolicyCompiler(nodeName: "n1")
        var cluster = Cluster()
        cluster.pod("shop/web", ports: [ContainerPort("http", 80)])
        cluster.pod("shop/other") { $0.addresses = [IPAddress("10.244.1.1")!] }
        cluster.policy("shop/p", ["ingress": [["ports": [["port": "http"], ["port": "https"]]]]])
        for pod in cluster.snapshot.pods.values { compiler.apply(.set(.pod(pod))) }
        for policy in cluster.snapshot.networkPolicies.values { compiler.apply(.set(.networkPolicy(policy))) }
        _ = compiler.takeContributions()
        #expect(
            compiler.notes.map(\.description) == [
                "NetworkPolicy shop/p: spec.ingress: pod shop/other exposes no port http/tcp; for it the port matches nothing",
                "NetworkPolicy shop/p: spec.ingress: pod shop/other exposes no port https/tcp; for it the port matches nothing",
                "NetworkPolicy shop/p: spec.ingress: pod shop/web exposes no port https/tcp; for it the port matches nothing",
                "Pod shop/web: status.podIPs: 10.244.1.1 belongs to pod shop/other; pod shop/web is taken to have it no longer",
            ])
    }
}
