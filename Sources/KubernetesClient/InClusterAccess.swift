import KernelInterface
import SystemPackage

extension ClusterAccess {
    /// Where the kubelet puts a pod's service account.
    public static let serviceAccountFolder = "/var/run/secrets/kubernetes.io/serviceaccount"

    /// The cluster this process is a pod of, with its service account.
    ///
    /// The token and the authorities are files that the kubelet replaces; they are read anew for every request.
    public static func inCluster(
        environment: [String: String], folder: String = serviceAccountFolder
    ) throws(ConfigurationError) -> ClusterAccess {
        let host = try variable("KUBERNETES_SERVICE_HOST", environment)
        let portVariable =
            environment["KUBERNETES_SERVICE_PORT_HTTPS"] == nil
            ? "KUBERNETES_SERVICE_PORT" : "KUBERNETES_SERVICE_PORT_HTTPS"
        guard let port = UInt16(try variable(portVariable, environment)), port > 0 else {
            throw ConfigurationError(file: portVariable, message: "is no port")
        }
        let access = ClusterAccess(
            server: Server(host: host, port: Int(port)), trust: .authorities(.file("\(folder)/ca.crt")),
            credentials: .token(.file("\(folder)/token")))
        for name in ["ca.crt", "token"] {
            do {
                _ = try Material.file("\(folder)/\(name)").bytes()
            } catch {
                throw ConfigurationError(file: "\(folder)/\(name)", message: "cannot be read: \(error.errno)")
            }
        }
        return access
    }

    private static func variable(
        _ name: String, _ environment: [String: String]
    ) throws(ConfigurationError) -> String {
        guard let value = environment[name], !value.isEmpty else {
            throw ConfigurationError(file: name, message: "is not set; is this process in a pod?")
        }
        return value
    }
}

extension ClusterAccess.Material {
    /// Certificates and tokens are a few kilobytes.
    private static let sizeLimit = 1 << 20

    /// What it is now.
    func bytes() throws(KernelError) -> [UInt8] {
        switch self {
        case .data(let bytes): return bytes
        case .file(let path):
            guard let bytes = try readFile(path, limit: Self.sizeLimit) else {
                throw KernelError(operation: "read \(path)", errno: .noSuchFileOrDirectory)
            }
            return bytes
        }
    }
}
