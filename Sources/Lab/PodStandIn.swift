import Glibc
public import KernelInterface
public import NetworkAddresses

/// The program that stands in for a pod's containers, as the lab starts it in the pod's namespace.
public enum PodStandIn {
    /// Serves the ports until it is asked to end.
    ///
    /// - Parameter record: The folder and the name of the file that says who serves, written once the ports are open:
    ///   whoever waits for the pod waits for it.
    public static func run(
        podName: String, ports: [(transport: TransportProtocol, port: Port)], record: (folder: String, file: String)
    ) throws(KernelError) {
        func numbers(of transport: TransportProtocol) -> Set<Port> {
            Set(ports.filter { $0.transport == transport }.map(\.port))
        }
        try PodServer.run(podName: podName, tcpPorts: numbers(of: .tcp), udpPorts: numbers(of: .udp)) {
            do {
                try StateDirectory.open(record.folder, create: false)
                    .replace(record.file, ProcessRecord(.current).recordBytes)
            } catch {
                // Nobody would ever know that it serves.
                try? StandardStreams.writeError("error: \(error)\n")
                exit(EXIT_FAILURE)
            }
        }
    }
}
