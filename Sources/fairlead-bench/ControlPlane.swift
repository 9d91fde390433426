import Foundation
import KernelInterface
import NetworkAddresses
import RouteNetlink
import Synchronization

/// A Kubernetes API server and its etcd, without anything behind them, in a network namespace of their own.
///
/// Certificates are made by `openssl`, objects are written by `curl`: a client that is not ours. Everything is kept in
/// one folder in memory; nothing is left when `end` was called.
final class ControlPlane: Sendable {
    static let port = 6443
    private static let administrator = "administrator"

    let folder: String
    let namespace: NetworkNamespace
    private let processes = Mutex<[ChildProcess]>([])
    private let signals = Mutex<[any DispatchSourceSignal]>([])

    /// Starts both and waits until the server says that it is ready.
    init(apiserver: String, etcd: String) throws {
        folder = "/dev/shm/fairlead-bench-\(getpid())"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        namespace = try NetworkNamespace.anonymous()
        try namespace.withEntered { () throws(KernelError) in
            try RouteSocket.open().change(link: 1, LinkChange(isUp: true))
        }
        endOnTermination()
        do {
            try makeCredentials()
            // Flags that etcd's own command and the one Kubernetes tests with have in common.
            let store = "http://127.0.0.1:2379"
            try start(
                etcd,
                [
                    "-data-dir", "\(folder)/etcd", "-listen-client-urls", store, "-advertise-client-urls", store,
                    "-listen-peer-urls", "http://127.0.0.1:2380", "-unsafe-no-fsync",
                ], log: "etcd", in: namespace)
            try start(
                apiserver,
                [
                    "--etcd-servers=\(store)", "--secure-port=\(Self.port)", "--authorization-mode=RBAC",
                    "--advertise-address=192.0.2.1", "--bind-address=0.0.0.0",
                    "--tls-cert-file=\(folder)/server.crt", "--tls-private-key-file=\(folder)/server.key",
                    "--client-ca-file=\(folder)/ca.crt", "--token-auth-file=\(folder)/tokens.csv",
                    "--service-account-issuer=https://kubernetes.default",
                    "--service-account-key-file=\(folder)/server.key",
                    "--service-account-signing-key-file=\(folder)/server.key",
                    "--service-cluster-ip-range=10.96.0.0/12",
                ], log: "apiserver", in: namespace)
            try waitUntilReady()
        } catch {
            end()
            throw error
        }
    }

    /// Ends all that was started and removes the folder.
    func end() {
        for process in processes.withLock({ $0 }).reversed() { stop(process) }
        try? FileManager.default.removeItem(atPath: folder)
        signals.withLock { $0 = [] }
    }

    /// Has the process end what it started when it is asked to end itself.
    private func endOnTermination() {
        signals.withLock { sources in
            for number in [SIGTERM, SIGINT, SIGHUP] {
                signal(number, SIG_IGN)
                let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
                source.setEventHandler { [self] in
                    end()
                    // As a shell tells of a process that the signal ended.
                    exit(128 + number)
                }
                source.resume()
                sources.append(source)
            }
        }
    }

    /// Starts a program, which runs no longer than until `end`; what it says goes to a file in the folder.
    @discardableResult
    func start(
        _ program: String, _ arguments: [String], log: String, in namespace: borrowing NetworkNamespace
    ) throws(KernelError) -> ChildProcess {
        let file = "\(folder)/\(log).log"
        return try namespace.withEntered { () throws(KernelError) in
            // Nothing is started unseen by an `end` on another thread.
            try processes.withLock { processes throws(KernelError) in
                let process = try ChildProcess.spawn(
                    executable: program, arguments: arguments, standardOutput: .file(file), standardError: .file(file))
                processes.append(process)
                return process
            }
        }
    }

    /// Ends a program that `start` has started.
    func stop(_ process: ChildProcess) {
        _ = try? process.signal(.kill)
        _ = try? process.wait()
        processes.withLock { $0.removeAll { $0 == process } }
    }

    private func makeCredentials() throws {
        try write("san", "subjectAltName=IP:127.0.0.1,IP:172.30.0.1,IP:172.30.1.1")
        try write("tokens.csv", "\(Self.administrator),root,root,\"system:masters\"\n")
        let newKey = ["req", "-newkey", "rsa:2048", "-nodes"]
        try openssl(
            newKey + ["-x509", "-keyout", path("ca.key"), "-out", path("ca.crt"), "-days", "2", "-subj", "/CN=bench"])
        try openssl(
            newKey + ["-keyout", path("server.key"), "-out", path("server.csr"), "-subj", "/CN=kube-apiserver"])
        try openssl([
            "x509", "-req", "-in", path("server.csr"), "-CA", path("ca.crt"), "-CAkey", path("ca.key"),
            "-CAcreateserial",
            "-days", "2", "-out", path("server.crt"), "-extfile", path("san"),
        ])
    }

    private func openssl(_ arguments: [String]) throws {
        let result = try ChildProcess.capture("openssl", arguments, timeout: .seconds(30))
        guard result.status.isSuccess else { throw BenchError("openssl \(arguments[0]): \(result.errorText)") }
    }

    private func waitUntilReady() throws {
        for _ in 0..<600 {
            if try request("/readyz", extra: ["--max-time", "2"]).answer == "ok" { return }
            usleep(100_000)
        }
        let log = (try? String(contentsOfFile: path("apiserver.log"), encoding: .utf8)) ?? ""
        throw BenchError("the API server is not ready after a minute; its log ends with\n\(log.suffix(2000))")
    }

    private func path(_ name: String) -> String { "\(folder)/\(name)" }

    func write(_ name: String, _ text: String) throws {
        try text.write(toFile: path(name), atomically: false, encoding: .utf8)
    }

    /// A kubeconfig for the administrator, by the server's address on one of its links; returns its path.
    func kubeconfig(server address: String) throws -> String {
        let name = "kubeconfig-\(address)"
        try write(
            name,
            """
            apiVersion: v1
            kind: Config
            current-context: bench
            clusters: [{name: bench, cluster: {server: "https://\(address):\(Self.port)", certificate-authority: \(path("ca.crt"))}}]
            users: [{name: bench, user: {token: \(Self.administrator)}}]
            contexts: [{name: bench, context: {cluster: bench, user: bench}}]
            """)
        return path(name)
    }

    // MARK: - Objects

    private static let authorization = ["-H", "Authorization: Bearer \(administrator)"]

    /// One request of curl's, and when the server had all of it, taken from curl's own times.
    func request(
        _ target: String, body: String? = nil, method: String? = nil, type: String = "application/json",
        extra: [String] = []
    ) throws -> (answer: String, code: Int, sent: ContinuousClock.Instant) {
        var arguments = ["-s", "--cacert", path("ca.crt"), "-w", "\n%{http_code} %{time_pretransfer} %{time_total}"]
        arguments += Self.authorization + extra
        if let method { arguments += ["-X", method] }
        if body != nil { arguments += ["-H", "Content-Type: \(type)", "--data-binary", "@-"] }
        let input = Array((body ?? "").utf8)
        let result = try namespace.withEntered { () throws(KernelError) in
            try ChildProcess.capture(
                "curl", arguments + ["https://127.0.0.1:\(Self.port)\(target)"], input: input, timeout: .seconds(60))
        }
        let end = ContinuousClock.now
        let text = result.text
        guard let cut = text.lastIndex(of: "\n") else { throw BenchError("curl: \(result.errorText)") }
        let words = text[text.index(after: cut)...].split(separator: " ").compactMap { Double($0) }
        guard words.count == 3 else { throw BenchError("curl said \(text.suffix(200))") }
        return (String(text[..<cut]), Int(words[0]), end - .seconds(words[2] - words[1]))
    }

    /// Creates objects over many connections at once, and fails unless all are accepted.
    func create(_ objects: [(path: String, json: String)]) throws {
        var script = ""
        for object in objects {
            if !script.isEmpty { script += "next\n" }
            let data = object.json.replacingOccurrences(of: "\\", with: "\\\\").replacingOccurrences(
                of: "\"", with: "\\\"")
            script += """
                url = "https://127.0.0.1:\(Self.port)\(object.path)"
                data = "\(data)"
                header = "Content-Type: application/json"
                header = "\(Self.authorization[1])"
                cacert = "\(path("ca.crt"))"
                output = "/dev/null"
                write-out = "%{http_code}\\n"
                silent

                """
        }
        try write("objects", script)
        let arguments = ["--parallel", "--parallel-max", "32", "-K", path("objects")]
        let result = try namespace.withEntered { () throws(KernelError) in
            try ChildProcess.capture("curl", arguments, timeout: .seconds(1800))
        }
        let accepted = result.text.split(separator: "\n").count { $0 == "201" }
        guard accepted == objects.count else {
            throw BenchError(
                "the API server accepted \(accepted) of \(objects.count) objects; see a single one with kubectl")
        }
    }
}

/// What keeps a benchmark from measuring.
struct BenchError: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}
