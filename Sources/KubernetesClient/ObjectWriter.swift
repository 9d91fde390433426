import AsyncHTTPClient
public import KubernetesObjects
import NIOCore
import NIOHTTP1

/// Creates objects at an API server: the agent's only way to write there.
public struct ObjectWriter: Sendable {
    private let transport: Transport

    /// - Parameter counts: Where its requests are counted.
    public init(
        _ access: ClusterAccess, userAgent: String = "fairlead-agent", counts: RequestCounts = RequestCounts()
    ) {
        transport = Transport(access, patience: Transport.Patience(), userAgent: userAgent, counts: counts)
    }

    /// Creates the object; once, whatever comes of it.
    ///
    /// - Parameter path: Of the collection, such as `/apis/events.k8s.io/v1/namespaces/default/events`.
    /// - Returns: Nil where it was created, else why not.
    public func create(_ object: FieldValue, in path: String) async -> String? {
        do {
            let status = try await transport.post(object, to: path)
            return status.map { "\($0.code) \($0.reason) \($0.message)" }
        } catch {
            return "\(error)"
        }
    }
}

extension Transport {
    /// Creates an object; nil where the server did so, else what it said.
    fileprivate func post(_ object: FieldValue, to path: String) async throws -> ServerStatus? {
        var (message, connections, generation) = try await message(to: path)
        message.method = .POST
        message.headers.add(name: "Content-Type", value: "application/json")
        message.body = .bytes(ByteBuffer(string: object.description))
        let response = try await send(message, by: connections, patience: patience.connection)
        let body = try? await response.body.collect(upTo: 1 << 20)
        guard !(200..<300).contains(response.status.code) else { return nil }
        if response.status == .unauthorized { await refresh(generation) }
        return ServerStatus(
            code: Int(response.status.code), body: body.flatMap { try? FieldValue(json: Array($0.readableBytesView)) })
    }
}
