import FoundationEssentials
import KernelInterface
import KubernetesObjects
import SystemPackage

extension CredentialPlugin {
    /// The versions of its protocol that are spoken.
    static let versions = ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"]
    private static let timeout = Duration.seconds(60)

    /// What a plugin made.
    struct Made: Hashable, Sendable {
        var token: String?
        var certificate: [UInt8]?
        var key: [UInt8]?
        var expiry: Timestamp?

        /// Whether it has expired, or will before a request made now is answered.
        func isStale(at now: Timestamp) -> Bool {
            expiry.map { $0.secondsSince1970 <= now.secondsSince1970 + 10 } ?? false
        }
    }

    /// Has the program make credentials.
    ///
    /// Blocks until it has.
    func run() throws(CredentialError) -> Made {
        let captured: ChildProcess.Captured
        var variables = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        variables["KUBERNETES_EXEC_INFO"] = request
        do {
            captured = try ChildProcess.capture(
                command, arguments, environment: variables, outputLimit: 1 << 20, timeout: Self.timeout)
        } catch where error.errno == .noSuchFileOrDirectory {
            let hint = installHint.isEmpty ? "" : ": \(installHint)"
            throw CredentialError(description: "there is no credential plugin \(command)\(hint)")
        } catch {
            throw CredentialError(description: "the credential plugin \(command) failed: \(error)")
        }
        guard captured.status.isSuccess else {
            let said = captured.errorText.prefix(200).split(separator: "\n").joined(separator: " ")
            throw CredentialError(
                description: "the credential plugin \(command) ended with \(captured.status): \(said)")
        }
        return try Made(captured.standardOutput, of: self)
    }

    /// `KUBERNETES_EXEC_INFO`.
    private var request: String {
        let cluster = cluster.map { ",\"cluster\":\($0)" } ?? ""
        return
            "{\"apiVersion\":\"\(apiVersion)\",\"kind\":\"ExecCredential\",\"spec\":{\"interactive\":false\(cluster)}}"
    }
}

extension CredentialPlugin.Made {
    /// Reads an `ExecCredential`.
    init(_ bytes: [UInt8], of plugin: CredentialPlugin) throws(CredentialError) {
        let tree: FieldValue
        do {
            tree = try FieldValue(json: bytes)
        } catch {
            // What it wrote may be a secret: it is not repeated.
            throw CredentialError(
                description: "the credential plugin \(plugin.command) wrote no JSON: \(error.message)")
        }
        do throws(FieldError) {
            let root = FieldReader(tree, problems: FieldProblems())
            guard tree["kind"]?.string == "ExecCredential" else {
                throw try root["kind"].error("is not ExecCredential")
            }
            guard tree["apiVersion"]?.string == plugin.apiVersion else {
                throw try root["apiVersion"].error("is not \(plugin.apiVersion)")
            }
            let status = try root["status"]
            token = try status["token"].readIfPresent()
            if let token, token.isEmpty || !token.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) {
                throw try status["token"].error("is no token")
            }
            certificate = try status["clientCertificateData"].readIfPresent(as: String.self).map { Array($0.utf8) }
            key = try status["clientKeyData"].readIfPresent(as: String.self).map { Array($0.utf8) }
            expiry = try status["expirationTimestamp"].readIfPresent()
            guard token != nil || certificate != nil else { throw status.error("holds neither token nor certificate") }
            guard (certificate == nil) == (key == nil) else {
                throw status.error("holds only one of certificate and key")
            }
        } catch {
            throw CredentialError(
                description: "the credential plugin \(plugin.command): \(error.field): \(error.message)")
        }
    }
}
