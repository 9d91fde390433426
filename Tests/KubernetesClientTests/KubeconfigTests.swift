import KubernetesObjects
import Testing

@testable import KubernetesClient

@Suite struct KubeconfigTests {
    /// A kubeconfig with one context, `blue`.
    static func file(cluster: String = "server: https://10.0.0.1:6443", user: String = "token: abc") -> String {
        """
        apiVersion: v1
        kind: Config
        current-context: blue
        contexts:
        - {name: red, context: {cluster: nowhere, user: nobody}}
        - {name: blue, context: {cluster: c1, user: u1, namespace: shop}}
        clusters:
        - name: c1
          cluster:
            \(cluster)
        users:
        - name: u1
          user:
            \(user)
        """
    }

    static func access(cluster: String = "server: https://10.0.0.1:6443", user: String = "token: abc") throws
        -> ClusterAccess
    {
        try Kubeconfig(Array(file(cluster: cluster, user: user).utf8), file: "/etc/admin.conf").access()
    }

    @Test func `the current context leads to a server and a user`() throws {
        let access = try Self.access()
        #expect(access.server.description == "https://10.0.0.1:6443")
        #expect(access.trust == .system)
        #expect(access.credentials == .token(.data(Array("abc".utf8))))
    }

    @Test(arguments: [
        ("https://k8s.example", "https://k8s.example:443"), ("HTTPS://k8s.example:6443/", "https://k8s.example:6443"),
        ("https://[fd00::1]:6443", "https://[fd00::1]:6443"), ("https://[fd00::1]", "https://[fd00::1]:443"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("https://rancher.example/k8s/clusters/c-1/", "https://rancher.example:443/k8s/clusters/c-1"),
    ])
    func `servers are read from URLs`(url: String, server: String) throws {
        #expect(try #require(ClusterAccess.Server(url)).description == server)
    }

    @Test(arguments: [
        "", "10.0.0.1:6443", "ftp://x", "https://", "https://:6443", "https://x:0", "https://x:70000", "https://x:",
        "https://u:p@x", "https://x?y", "https://[fd00::1", "https://[fd00::1]x", "https://x y", "https://x/\u{1b}",
    ])
    func `what is no URL of a server is refused`(url: String) {
        #expect(ClusterAccess.Server(url) == nil)
    }

    @Test func `certificates and keys come from the file or from beside it`() throws {
        let folder = try TemporaryFolder()
        defer { withExtendedLifetime(folder) {} }
        try folder.write("ca.pem", "authority")
        try folder.write("client.key", "key")
        let path = try folder.write(
            "config",
            Self.file(
                cluster: "{server: 'https://x:6443', certificate-authority: ca.pem, tls-server-name: k8s}",
                user: "{client-certificate-data: Y2VydA==, client-key: \(folder.path)/client.key}"))
        let access = try Kubeconfig.open(path).access()
        #expect(access.trust == .authorities(.file("\(folder.path)/ca.pem")))
        #expect(access.serverName == "k8s")
        #expect(
            access.certificate
                == .init(certificate: .data(Array("cert".utf8)), key: .file("\(folder.path)/client.key")))
        #expect(access.credentials == .none)
    }

    @Test func `who acts for another says for whom`() throws {
        let access = try Self.access(
            user: "{token: abc, as: jane, as-uid: u1, as-groups: [dev, ops], as-user-extra: {example.org/scope: [a, b]}}")
        var jane = ClusterAccess.Impersonation(user: "jane")
        jane.uid = "u1"
        jane.groups = ["dev", "ops"]
        jane.extra = ["example.org/scope": ["a", "b"]]
        #expect(access.impersonation == jane)
    }

    @Test(arguments: [
        ("http://proxy:3128", ClusterAccess.Proxy.Kind.http, "proxy", 3128), ("http://proxy", .http, "proxy", 80),
        ("socks5://[fd00::1]", .socks5, "fd00::1", 1080), ("socks5://10.0.0.1:99", .socks5, "10.0.0.1", 99),
    ])
    func `a proxy is read from its URL`(url: String, kind: ClusterAccess.Proxy.Kind, host: String, port: Int) throws {
        let access = try Self.access(cluster: "{server: 'https://x', proxy-url: '\(url)'}")
        let proxy = try #require(access.proxy)
        #expect(proxy.kind == kind && proxy.host == host && proxy.port == port)
    }

    @Test func `a plugin is told what it asks to be told`() throws {
        let access = try Self.access(
            cluster: "{server: 'https://x:6443', certificate-authority-data: Y2E=}",
            user: """
                exec: {apiVersion: client.authentication.k8s.io/v1, command: bin/login, args: [-c, blue],
                  env: [{name: A, value: b}], provideClusterInfo: true, interactiveMode: IfAvailable}
                """.split(separator: "\n").joined(separator: " "))
        guard case .plugin(let plugin) = access.credentials else {
            Issue.record("no plugin")
            return
        }
        #expect(plugin.command == "/etc/bin/login")
        #expect(plugin.arguments == ["-c", "blue"])
        #expect(plugin.environment == ["A": "b"])
        #expect(plugin.cluster == #"{"server":"https://x:6443","certificate-authority-data":"Y2E="}"#)
    }

    @Test(arguments: [
        ("server: 10.0.0.1", "token: abc", "clusters[0].cluster.server"),
        ("certificate-authority-data: Y2E=", "token: abc", "clusters[0].cluster.server"),
        ("{server: 'https://x', certificate-authority-data: '!'}", "{}", "certificate-authority-data"),
        (
            "{server: 'https://x', certificate-authority: /nowhere/ca}", "{}",
            "clusters[0].cluster.certificate-authority"
        ),
        (
            "{server: 'https://x', certificate-authority-data: Y2E=, insecure-skip-tls-verify: true}", "{}",
            "clusters[0].cluster.insecure-skip-tls-verify"
        ),
        ("{server: 'https://x', proxy-url: 'https://y'}", "{}", "clusters[0].cluster.proxy-url"),
        ("server: https://x", "client-key-data: Y2E=", "users[0].user.client-certificate"),
        ("server: https://x", "client-certificate-data: Y2E=", "users[0].user.client-key"),
        ("server: https://x", "token: [abc]", "users[0].user.token"),
        ("server: https://x", "token: 'a b'", "users[0].user.token"),
        ("server: https://x", "{token: abc, as-groups: [a]}", "users[0].user.as-groups"),
        ("server: https://x", "{as: \"a\\r\\nb\"}", "users[0].user.as"),
        ("server: https://x", "auth-provider: {name: gcp}", "users[0].user.auth-provider"),
        ("server: https://x", "exec: {command: x}", "users[0].user.exec.apiVersion"),
        ("server: https://x", "exec: {command: x, apiVersion: v9}", "users[0].user.exec.apiVersion"),
        (
            "server: https://x",
            "exec: {command: x, apiVersion: client.authentication.k8s.io/v1, interactiveMode: Always}",
            "users[0].user.exec.interactiveMode"
        ),
        (
            "server: https://x",
            "{token: abc, exec: {command: x, apiVersion: client.authentication.k8s.io/v1}}", "users[0].user.exec"
        ),
    ])
    func `what is wrong is said with file, context and field`(cluster: String, user: String, field: String) {
        #expect {
            try Self.access(cluster: cluster, user: user)
        } throws: { error in
            let error = error as? ConfigurationError
            return error?.file == "/etc/admin.conf" && error?.context == "blue" && error?.field.hasSuffix(field) == true
                && error?.message.isEmpty == false
        }
    }

    @Test func `a context, cluster or user that is not there is named`() throws {
        let config = try Kubeconfig(Array(Self.file().utf8), file: "c")
        #expect(
            throws: ConfigurationError(
                file: "c", context: "green", field: "contexts", message: "there is no context \"green\"")
        ) { try config.access(context: "green") }
        #expect(
            throws: ConfigurationError(
                file: "c", context: "red", field: "contexts[0].context.cluster",
                message: "there is no cluster \"nowhere\"")
        ) { try config.access(context: "red") }
    }

    @Test(arguments: ["", "kind: Pod", "{", "a: b\n---\nc: d", "\u{0}"])
    func `what is no kubeconfig is refused with the file's name`(text: String) {
        #expect {
            try Kubeconfig(Array(text.utf8), file: "c.yaml")
        } throws: { ($0 as? ConfigurationError)?.description.hasPrefix("c.yaml: ") == true }
    }

    @Test func `a file that is not there is named`() {
        #expect(throws: ConfigurationError(file: "/nowhere/config", message: "does not exist")) {
            try Kubeconfig.open("/nowhere/config")
        }
    }

    @Test func `a pod finds its cluster in its environment and its service account`() throws {
        let folder = try TemporaryFolder()
        defer { withExtendedLifetime(folder) {} }
        let environment = ["KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"]
        #expect {
            try ClusterAccess.inCluster(environment: environment, folder: folder.path)
        } throws: { "\($0)".hasPrefix("\(folder.path)/ca.crt: cannot be read") }
        try folder.write("ca.crt", "x")
        try folder.write("token", "y")
        let access = try ClusterAccess.inCluster(environment: environment, folder: folder.path)
        #expect(access.server.description == "https://[fd00::1]:443")
        #expect(access.credentials == .token(.file("\(folder.path)/token")))
        #expect {
            try ClusterAccess.inCluster(environment: [:], folder: folder.path)
        } throws: { "\($0)" == "KUBERNETES_SERVICE_HOST: is not set; is this process in a pod?" }
    }
}

@Suite struct CredentialTests {
    private func plugin(_ script: String, in folder: TemporaryFolder) throws -> CredentialPlugin {
        // The shell is what is started: a program just written is busy while another test's child has it open.
        let path = try folder.write("plugin", "echo run >>\(folder.path)/runs\n\(script)\n")
        return CredentialPlugin(
            command: "/bin/sh", arguments: [path], environment: ["COLOUR": "blue"],
            cluster: "{\"server\":\"https://x\"}")
    }

    private func source(_ plugin: CredentialPlugin) -> CredentialSource {
        CredentialSource(ClusterAccess(server: .init(host: "x", port: 1), credentials: .plugin(plugin)))
    }

    private static func answer(_ status: String) -> String {
        "echo '{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\"status\":\(status)}'"
    }

    @Test(arguments: [("2126-01-01T00:00:00Z", 1), ("2020-01-01T00:00:00Z", 3)])
    func `what a plugin made is used until it expires`(expiry: String, runs: Int) async throws {
        let folder = try TemporaryFolder()
        defer { withExtendedLifetime(folder) {} }
        let source = source(
            try plugin(Self.answer("{\"token\":\"t\",\"expirationTimestamp\":\"\(expiry)\"}"), in: folder))
        for _ in 0..<3 { #expect(try await source.current().credentials.authorization == "Bearer t") }
        #expect(try folder.read("runs").split(separator: "\n").count == runs)
    }

    @Test func `a plugin is told of the cluster and given its variables`() async throws {
        let folder = try TemporaryFolder()
        defer { withExtendedLifetime(folder) {} }
        let script = "echo \"$COLOUR $KUBERNETES_EXEC_INFO\" >\(folder.path)/told\n" + Self.answer("{\"token\":\"t\"}")
        _ = try await source(try plugin(script, in: folder)).current()
        #expect(
            try folder.read("told") == """
                blue {"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential",\
                "spec":{"interactive":false,"cluster":{"server":"https://x"}}}

                """)
    }

    @Test(arguments: [
        ("echo no >&2; exit 3", "ended with exit status 3: no"), ("echo hello", "wrote no JSON"),
        ("echo '{}'", "kind: is not ExecCredential"), (answer("{}"), "status: holds neither token nor certificate"),
        (answer("{\"token\":\"a b\"}"), "status.token: is no token"),
        (answer("{\"clientCertificateData\":\"x\"}"), "status: holds only one of certificate and key"),
        (answer("{\"token\":\"t\",\"expirationTimestamp\":\"soon\"}"), "status.expirationTimestamp"),
        ("head -c 2000000 /dev/zero", "failed: run /bin/sh"),
    ])
    func `a plugin that fails is named, with how`(script: String, message: String) async throws {
        let folder = try TemporaryFolder()
        defer { withExtendedLifetime(folder) {} }
        let plugin = try plugin(script, in: folder)
        await #expect {
            try await source(plugin).current()
        } throws: { "\($0)".contains(plugin.command) && "\($0)".contains(message) }
    }

    @Test func `where there is no plugin its installer is quoted`() async throws {
        let plugin = CredentialPlugin(command: "/nowhere/login", installHint: "apt install login")
        await #expect {
            try await source(plugin).current()
        } throws: { "\($0)" == "there is no credential plugin /nowhere/login: apt install login" }
    }

    @Test func `a password is sent in base 64`() async throws {
        let access = ClusterAccess(
            server: .init(host: "x", port: 1), credentials: .password(user: "a", password: "b:c"))
        #expect(try await CredentialSource(access).current().credentials.authorization == "Basic YTpiOmM=")
    }
}
