import HTTPTypes
import Hummingbird
import Logging
import NIOCore
import NetworkAddresses
import NodeDuties
import ServiceLifecycle
import SystemPackage

/// What an HTTP page answers.
struct Page: Sendable {
    var code = 200
    var type = "text/plain; charset=utf-8"
    var body: String
    var headers: [(String, String)] = []
}

/// A question, as far as any page here cares.
struct PageRequest: Sendable {
    /// Without the query.
    var path: String
    /// Of the address it was asked at.
    var family: AddressFamily
}

/// Serves pages at one address, until cancelled.
struct PageListener: Sendable {
    typealias Pages = @Sendable (PageRequest) -> Page?

    let address: NetworkAddresses.SocketAddress
    let pages: Pages

    /// Listens and answers; nil from `pages` is 404.
    ///
    /// - Throws: where the address cannot be listened at.
    func run() async throws {
        do {
            try await run(at: address)
        } catch where address.address == .v6(IPv6Address(rawValue: 0)) && !(error is IOError) {
            // The resolver knows no address of IPv6 on a host that has none but its loopback's; then IPv4 is all there is.
            try await run(at: NetworkAddresses.SocketAddress(.v4(IPv4Address(rawValue: 0)), address.port))
        }
    }

    private func run(at address: NetworkAddresses.SocketAddress) async throws {
        // What goes wrong with one connection concerns its other end only.
        var quiet = Logger(label: "fairlead-agent.http")
        quiet.logLevel = .critical
        let pages = pages
        let responder = CallbackResponder<PageContext> { request, context in
            guard request.method == .get || request.method == .head else { return Response(status: .methodNotAllowed) }
            let page = pages(PageRequest(path: request.uri.path, family: context.family))
            return Self.response(page ?? Page(code: 404, body: "404 page not found\n"))
        }
        let application = Application(
            responder: responder,
            configuration: ApplicationConfiguration(
                address: .hostname(address.address.description, port: Int(address.port.rawValue))),
            logger: quiet)
        try await application.run()
    }

    private static func response(_ page: Page) -> Response {
        var headers: HTTPFields = [.contentType: page.type]
        headers.append(HTTPField(name: .xContentTypeOptions, value: "nosniff"))
        for (name, value) in page.headers {
            if let name = HTTPField.Name(name) { headers.append(HTTPField(name: name, value: value)) }
        }
        return Response(
            status: HTTPResponse.Status(code: page.code), headers: headers,
            body: ResponseBody(byteBuffer: ByteBuffer(string: page.body)))
    }
}

/// A request's context: where it came in.
private struct PageContext: InitializableFromSource, Sendable {
    let family: AddressFamily

    init(source: ApplicationRequestContextSource) {
        let address = source.channel.localAddress?.ipAddress ?? ""
        // A socket for IPv6 takes IPv4 too, and shows its addresses mapped.
        family = address.contains(":") && !address.hasPrefix("::ffff:") ? .ipv6 : .ipv4
    }
}

/// One of the node's own listeners, tried again until it can listen.
struct PageServer: ServiceLifecycle.Service {
    let name: String
    /// The reason of the Event about a failure.
    let failure: String
    let listener: PageListener
    /// Whether an address that cannot be listened at ends the process.
    let isEssential: Bool
    let nodeName: String
    let events: EventSender
    let logger: Logger

    private static let pause = Duration.seconds(5)

    func run() async throws {
        try await cancelWhenGracefulShutdown {
            var isTold = false
            while !Task.isCancelled {
                do {
                    try await listener.run()
                } catch {
                    if Task.isCancelled { return }
                    let note = "cannot serve \(name) at \(listener.address): \(describe(error))"
                    events.tell(.node(nodeName, .warning, reason: failure, note: note))
                    if isEssential { throw ListeningError(description: note) }
                    if !isTold { logger.error("\(note); trying again every \(Self.pause.components.seconds) s") }
                    isTold = true
                }
                try? await Task.sleep(for: Self.pause)
            }
        }
    }
}

/// Why the agent ends where `bindAddressHardFail` is set.
struct ListeningError: Error, CustomStringConvertible {
    var description: String
}

/// A failure to listen in the kernel's words.
func describe(_ error: any Error) -> String {
    guard let error = error as? IOError else { return "\(error)" }
    return Errno(rawValue: error.errnoCode).description
}
