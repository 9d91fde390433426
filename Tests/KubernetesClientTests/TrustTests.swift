import KubernetesObjects
import Testing

@testable import KubernetesClient

/// Who is believed to be the server, and how it recognises us.
@Suite struct TrustTests {
    @Test func `a server with somebody else's certificate gets no request`() async throws {
        let server = TestServer()
        try await server.start()
        var access = server.access
        access.trust = .authorities(.data(Array(TestCertificate.named.certificate.utf8)))
        access.credentials = .token(.data(Array("secret".utf8)))
        try await server.followed(access: access) { listener in
            try await listener.wait("a note") { !$0.notes.isEmpty }
            #expect(server.requests(.watch, .services).isEmpty)
        }
    }

    @Test func `a certificate for another name is refused, unless that is the name that is meant`() async throws {
        let server = TestServer(certificate: .named)
        try await server.start()
        var access = server.access
        await server.stop()
        for name in [nil, "elsewhere.test"] {
            access.serverName = name
            try await server.start()
            try await server.followed(access: access) { listener in
                try await listener.wait("a note") { !$0.notes.isEmpty }
                #expect(server.requests(.watch, .services).isEmpty)
            }
        }
        try await server.start()
        access.serverName = "kubernetes.test"
        try await server.followed(access: access) { listener in
            try await listener.wait("synced") { $0.isSynced }
        }
    }

    @Test func `without verification anyone is believed`() async throws {
        let server = TestServer()
        try await server.start()
        try await server.followed(access: ClusterAccess(server: server.access.server, trust: .anyone)) { listener in
            try await listener.wait("synced") { $0.isSynced }
        }
    }

    @Test func `a client certificate is shown where the server asks for one`() async throws {
        let server = TestServer(asksForCertificate: true)
        try await server.start()
        var access = server.access
        try await server.followed(access: access) { listener in
            try await listener.wait("a note") { !$0.notes.isEmpty }
            #expect(!listener.now.isSynced)
        }
        try await server.start()
        access.certificate = .init(
            certificate: .data(Array(TestCertificate.here.certificate.utf8)),
            key: .data(Array(TestCertificate.here.key.utf8)))
        try await server.followed(access: access) { listener in
            try await listener.wait("synced") { $0.isSynced }
        }
    }

    @Test func `in whose name is asked is said with every request`() async throws {
        let server = TestServer()
        try await server.start()
        var access = server.access
        var jane = ClusterAccess.Impersonation(user: "jane")
        jane.groups = ["dev", "ops"]
        jane.extra = ["example.org/scope": ["a"]]
        access.impersonation = jane
        try await server.followed([.services], access: access) { listener in
            try await listener.wait("synced") { $0.isSynced }
            let said = try #require(server.requests(.watch, .services).first).impersonation
            #expect(
                said == [
                    "Impersonate-User: jane", "Impersonate-Group: dev", "Impersonate-Group: ops",
                    "Impersonate-Extra-example.org%2Fscope: a",
                ])
        }
    }

    @Test func `a token that was replaced is read again`() async throws {
        let folder = try TemporaryFolder()
        defer { withExtendedLifetime(folder) {} }
        let path = try folder.write("token", "first\n")
        let server = TestServer()
        try await server.start()
        server.with { $0.acceptedTokens = ["first"] }
        var access = server.access
        access.credentials = .token(.file(path))
        try await server.followed(access: access) { listener in
            try await listener.wait("synced") { $0.isSynced }
            server.with { $0.acceptedTokens = ["second"] }
            await server.stop()
            try await server.start()
            try await listener.wait("a note") { $0.notes.contains { $0.contains("401 Unauthorized") } }
            try folder.write("token", "second\n")
            server.change { $0.set(WatchedResource.services.path, service("web")) }
            try await listener.wait("news") { $0.hasService("web") && $0.notes.isEmpty }
        }
    }

    @Test func `a plugin is asked again when what it made is refused, and not before`() async throws {
        let folder = try TemporaryFolder()
        defer { withExtendedLifetime(folder) {} }
        try folder.write("answer", "one")
        let plugin = try folder.write(
            "plugin",
            """
            echo run >>\(folder.path)/runs
            printf '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"%s"}}' \
            "$(cat \(folder.path)/answer)"
            """)
        let server = TestServer()
        try await server.start()
        server.with { $0.acceptedTokens = ["one"] }
        var access = server.access
        access.credentials = .plugin(CredentialPlugin(command: "/bin/sh", arguments: [plugin]))
        try await server.followed([.services, .nodes, .pods], access: access) { listener in
            try await listener.wait("synced") { $0.isSynced }
            #expect(try folder.read("runs") == "run\n")
            try folder.write("answer", "two")
            server.with { $0.acceptedTokens = ["two"] }
            await server.stop()
            try await server.start()
            server.change { $0.set(WatchedResource.services.path, service("web")) }
            try await listener.wait("news") { $0.hasService("web") && $0.notes.isEmpty }
            #expect(try folder.read("runs") == "run\nrun\n")
        }
    }
}
