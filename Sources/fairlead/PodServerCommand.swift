import ArgumentParser
import Lab
import NetworkAddresses

/// The stand-in for a pod's containers, which the lab starts; nobody types this.
struct PodServerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pod-server", abstract: "Stands in for a lab pod's containers.", shouldDisplay: false)

    @Option(help: "The name to answer with.")
    var pod: String

    @Option(help: "The file to write once every port is open.")
    var record: String

    @Argument(help: "Ports, such as tcp/80.")
    var ports: [ListeningPort]

    func run() async throws {
        let slash = record.lastIndex(of: "/") ?? record.startIndex
        try PodStandIn.run(
            podName: pod, ports: ports.map { ($0.transport, $0.port) },
            record: (String(record[..<slash]), String(record[record.index(after: slash)...])))
    }
}

/// A protocol and a port, as in `tcp/80`.
struct ListeningPort: ExpressibleByArgument {
    var transport: TransportProtocol
    var port: Port

    init?(argument: String) {
        let parts = argument.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 2, let transport = TransportProtocol(parts[0]), let port = Port(parts[1]) else {
            return nil
        }
        self.transport = transport
        self.port = port
    }
}
