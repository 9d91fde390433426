import NIOCore
import NIOPosix
import NIOSSL
import Testing

@testable import KubernetesClient

/// Programs that are no API server, at the address where one should be.
@Suite struct StrangeServerTests {
    /// Says this to whoever connects (and, over TLS, has shaken hands), and hangs up.
    private final class Answer: ChannelInboundHandler, Sendable {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer
        let text: String
        /// Whether it waits for a request.
        let isPolite: Bool

        init(_ text: String, isPolite: Bool) { (self.text, self.isPolite) = (text, isPolite) }

        func channelActive(context: ChannelHandlerContext) { if !isPolite { say(on: context) } }
        func channelRead(context: ChannelHandlerContext, data: NIOAny) { if isPolite { say(on: context) } }
        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

        private func say(on context: ChannelHandlerContext) {
            context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: text)), promise: nil)
            context.close(promise: nil)
        }
    }

    private static let status = """
        {"kind":"Status","reason":"\\u001b[31mBad","message":"\\u0007one\\ntwo\\u202e","code":500}
        """

    @Test(arguments: [
        (false, "SSH-2.0-OpenSSH_9.2p1\r\n"), (false, ""),
        (false, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"),
        (true, ""), (true, "220 mail.example ESMTP\r\n"), (true, "\u{0}\u{1}\u{2}\u{3}"),
        (true, "HTTP/1.1 200 OK\r\nX: " + String(repeating: "a", count: 300_000)),
        (true, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        (true, "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n{}"),
        (true, "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"kind\":\"ServiceList\""),
        (true, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html><body>Please log in</body></html>"),
        (true, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>\n<body>\nPlease log in\n</body>\n</html>\n"),
        (true, "HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/\r\nContent-Length: 0\r\n\r\n"),
        (true, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n"), (true, "HTTP/1.1 999 \u{1b}[31m\r\n\r\n"),
        (true, "HTTP/1.1 404 Not Found\r\nContent-Length: 19\r\n\r\n404 page not found\n"),
        (true, "HTTP/1.1 500 x\r\nContent-Length: \(status.utf8.count)\r\n\r\n\(status)"),
    ])
    func `what is no API server is said to be none, in a line that can be read, and nothing is believed`(
        isSecure: Bool, text: String
    ) async throws {
        let certificate = TestCertificate.here
        let context = try NIOSSLContext(
            configuration: .makeServerConfiguration(
                certificateChain: NIOSSLCertificate.fromPEMBytes(Array(certificate.certificate.utf8)).map { .certificate($0) },
                privateKey: .privateKey(NIOSSLPrivateKey(bytes: Array(certificate.key.utf8), format: .pem))))
        let listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if isSecure { try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: context)) }
                    try channel.pipeline.syncOperations.addHandler(Answer(text, isPolite: isSecure))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        let access = ClusterAccess(
            server: .init(host: "127.0.0.1", port: listener.localAddress?.port ?? 0),
            trust: .authorities(.data(Array(certificate.certificate.utf8))))
        let said = Listener()
        let watcher = KubernetesWatcher(access, resources: [.services], silence: .seconds(5), usesStreams: true) { said.hear($0) }
        let task = Task { await watcher.run() }
        do { try await said.wait("a note") { !$0.notes.isEmpty } } catch {}
        task.cancel()
        await task.value
        try await listener.close()
        let heard = said.now
        #expect(heard.events.isEmpty && !heard.isSynced)
        // Who hangs up at once may be faster than the greeting.
        if !text.isEmpty, !isSecure || !text.hasPrefix("HTTP/") {
            let reason = isSecure ? ": the answer is no HTTP" : ": the TLS handshake failed"
            #expect(heard.allNotes.contains { $0.contains(reason) }, "\(heard.allNotes)")
        }
        for note in heard.allNotes {
            #expect(note.contains("cannot watch services: ") || note.contains("cannot list services: "), "\(note)")
            #expect(note.utf8.count < 600 && !note.unicodeScalars.contains { $0.properties.generalCategory == .control }, "\(note)")
        }
    }
}
