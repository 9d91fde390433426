import Glibc
import NetworkAddresses
import Nftables
import PacketPath
import Testing

extension Trait where Self == ConditionTrait {
    /// The kernel lets only root make network namespaces; elsewhere these tests are skipped and say so.
    static var needsRoot: Self { .enabled(if: geteuid() == 0, "making network namespaces needs root") }
}

/// Literals for tests; text that is none is a mistake of the test.
func ip(_ text: String) -> IPAddress { IPAddress(text)! }
func port(_ number: Int) -> Port { Port(number)! }
func at(_ address: String, _ number: Int) -> SocketAddress { SocketAddress(ip(address), port(number)) }
func interface(_ name: String, _ index: Int32 = 1) -> PacketInterface { .init(InterfaceName(name)!, index: index) }
func prefix(_ text: String) -> IPPrefix { IPPrefix(text)! }

extension Ruleset {
    /// What one of the table's chains does with the packet, its own elements answering lookups.
    func evaluate(
        _ chain: String, _ packet: Packet, _ connection: Connection? = nil, localAddresses: [IPAddress] = []
    ) -> [Evaluation] {
        RulesetEvaluator(self, in: RulesetElements([self], localAddresses: localAddresses))
            .evaluate(chain: chain, packet, connection ?? Connection(openedBy: packet))
    }
}
