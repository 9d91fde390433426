import FoundationEssentials
import KernelInterface
import KubernetesObjects
import ManifestFolder
import SystemPackage

/// A kubeconfig file: servers, users, and the contexts that join one of each.
public struct Kubeconfig: Sendable {
    /// Longer ones are not read.
    private static let sizeLimit = 4 << 20

    private let file: String
    /// The folder relative paths in the file begin at.
    private let folder: String
    private let root: FieldValue

    /// Reads the file at `path`.
    public static func open(_ path: String) throws(ConfigurationError) -> Kubeconfig {
        let bytes: [UInt8]?
        do {
            bytes = try readFile(path, limit: sizeLimit)
        } catch {
            throw ConfigurationError(file: path, message: "cannot be read: \(error.errno)")
        }
        guard let bytes else { throw ConfigurationError(file: path, message: "does not exist") }
        return try Kubeconfig(bytes, file: path)
    }

    /// Takes the file's content, in YAML or JSON.
    public init(_ bytes: [UInt8], file: String) throws(ConfigurationError) {
        self.file = file
        folder = String(file.prefix(upTo: file.lastIndex(of: "/") ?? file.startIndex))
        let documents: [FieldValue]
        do {
            documents = try ManifestText.documents(in: bytes)
        } catch {
            throw ConfigurationError(file: file, message: "\(error)")
        }
        guard documents.count == 1, documents[0]["kind"]?.string == "Config" else {
            throw ConfigurationError(file: file, field: "kind", message: "is not Config; is this a kubeconfig?")
        }
        root = documents[0]
    }

    /// What a context leads to.
    ///
    /// - Parameter name: Nil for the file's `current-context`.
    public func access(context name: String? = nil) throws(ConfigurationError) -> ClusterAccess {
        var context = name ?? ""
        do throws(FieldError) {
            let root = FieldReader(root, problems: FieldProblems())
            if name == nil { context = try root["current-context"].read() }
            guard let entry = try Self.entry(context, of: root["contexts"]) else {
                let field = name == nil ? try root["current-context"] : try root["contexts"]
                throw field.error("there is no context \"\(context)\"")
            }
            let chosen = try entry["context"]
            let clusterName: String = try chosen["cluster"].read()
            guard let cluster = try Self.entry(clusterName, of: root["clusters"]) else {
                throw try chosen["cluster"].error("there is no cluster \"\(clusterName)\"")
            }
            var access = try access(cluster: cluster["cluster"])
            if let userName: String = try chosen["user"].readIfPresent(), !userName.isEmpty {
                guard let user = try Self.entry(userName, of: root["users"]) else {
                    throw try chosen["user"].error("there is no user \"\(userName)\"")
                }
                try add(user["user"], to: &access, cluster: cluster["cluster"])
            }
            return access
        } catch {
            throw ConfigurationError(file: file, context: context, field: error.field, message: error.message)
        }
    }

    private static func entry(_ name: String, of list: FieldReader) throws(FieldError) -> FieldReader? {
        for element in try list.elements() where try element["name"].read(as: String.self) == name { return element }
        return nil
    }

    private func access(cluster: FieldReader) throws(FieldError) -> ClusterAccess {
        let url: String = try cluster["server"].read()
        guard let server = ClusterAccess.Server(url) else {
            throw try cluster["server"].error("\"\(url)\" is no URL of a server (https://host:6443)")
        }
        var access = ClusterAccess(server: server)
        if let url: String = try cluster["proxy-url"].readIfPresent(), !url.isEmpty {
            guard let proxy = ClusterAccess.Proxy(url) else {
                throw try cluster["proxy-url"].error(
                    "\"\(url)\" is no URL of a proxy (http://host:3128 or socks5://host:1080)")
            }
            access.proxy = proxy
        }
        if let name: String = try cluster["tls-server-name"].readIfPresent(), !name.isEmpty { access.serverName = name }
        let authorities = try material("certificate-authority", of: cluster)
        if try cluster["insecure-skip-tls-verify"].readIfPresent() ?? false {
            guard authorities == nil else {
                throw try cluster["insecure-skip-tls-verify"].error("contradicts the authorities that are given too")
            }
            access.trust = .anyone
        } else if let authorities {
            access.trust = .authorities(authorities)
        }
        return access
    }

    private func add(
        _ user: FieldReader, to access: inout ClusterAccess, cluster: FieldReader
    ) throws(FieldError) {
        guard try user["auth-provider"].isAbsent else {
            throw try user["auth-provider"].error(
                "is a way that Kubernetes has given up; name the provider's credential plugin in exec instead")
        }
        access.impersonation = try impersonation(user)
        let certificate = try material("client-certificate", of: user)
        let key = try material("client-key", of: user)
        switch (certificate, key) {
        case (let certificate?, let key?): access.certificate = .init(certificate: certificate, key: key)
        case (nil, nil): break
        case (nil, .some): throw try user["client-certificate"].error("is missing, though there is a key")
        case (.some, nil): throw try user["client-key"].error("is missing, though there is a certificate")
        }
        // client-go's order: a file of tokens before a token, since the file is the one that is renewed.
        if let path: String = try user["tokenFile"].readIfPresent(), !path.isEmpty {
            access.credentials = .token(.file(absolute(path)))
        } else if let token: String = try user["token"].readIfPresent(), !token.isEmpty {
            guard token.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else {
                throw try user["token"].error("holds characters that no token has")
            }
            access.credentials = .token(.data(Array(token.utf8)))
        } else if let name: String = try user["username"].readIfPresent(), !name.isEmpty {
            access.credentials = .password(user: name, password: try user["password"].readIfPresent() ?? "")
        }
        if try !user["exec"].isAbsent {
            guard access.credentials == .none, access.certificate == nil else {
                throw try user["exec"].error("is given beside other credentials")
            }
            access.credentials = .plugin(try plugin(user["exec"], cluster: cluster))
        }
    }

    private func impersonation(_ user: FieldReader) throws(FieldError) -> ClusterAccess.Impersonation? {
        guard let name: String = try user["as"].readIfPresent(), !name.isEmpty else {
            for key in ["as-uid", "as-groups", "as-user-extra"] where try !user[key].isAbsent {
                throw try user[key].error("is given without as, the user it belongs to")
            }
            return nil
        }
        var impersonation = ClusterAccess.Impersonation(user: try user["as"].readHeaderValue())
        if try !user["as-uid"].isAbsent { impersonation.uid = try user["as-uid"].readHeaderValue() }
        for group in try user["as-groups"].elements() { impersonation.groups.append(try group.readHeaderValue()) }
        for entry in try user["as-user-extra"].map()?.entries ?? [] {
            let values = try user["as-user-extra"][entry.key].elements()
            var texts: [String] = []
            for value in values { texts.append(try value.readHeaderValue()) }
            impersonation.extra[entry.key] = texts
        }
        return impersonation
    }

    private func plugin(_ exec: FieldReader, cluster: FieldReader) throws(FieldError) -> CredentialPlugin {
        let version: String = try exec["apiVersion"].read()
        guard CredentialPlugin.versions.contains(version) else {
            let known = CredentialPlugin.versions.joined(separator: ", ")
            throw try exec["apiVersion"].error("\"\(version)\" is none of \(known)")
        }
        guard try exec["interactiveMode"].readIfPresent() ?? "" != "Always" else {
            throw try exec["interactiveMode"].error("there is no terminal to ask anybody at")
        }
        let command: String = try exec["command"].read()
        guard !command.isEmpty else { throw try exec["command"].error("is empty") }
        var plugin = CredentialPlugin(
            apiVersion: version, command: command.contains("/") ? absolute(command) : command,
            installHint: try exec["installHint"].readIfPresent() ?? "")
        for argument in try exec["args"].elements() { plugin.arguments.append(try argument.read()) }
        for variable in try exec["env"].elements() {
            plugin.environment[try variable["name"].read()] = try variable["value"].readIfPresent() ?? ""
        }
        if try exec["provideClusterInfo"].readIfPresent() ?? false {
            var told: FieldValue = [:]
            for key in ["server", "tls-server-name", "insecure-skip-tls-verify", "certificate-authority-data"] {
                told[key] = try cluster[key].isAbsent ? nil : try cluster[key].value
            }
            plugin.cluster = told.description
        }
        return plugin
    }

    /// `name-data`, in base 64, or else the file that `name` names.
    private func material(_ name: String, of field: FieldReader) throws(FieldError) -> ClusterAccess.Material? {
        if let text: String = try field["\(name)-data"].readIfPresent(), !text.isEmpty {
            guard let data = Data(base64Encoded: text, options: .ignoreUnknownCharacters), !data.isEmpty else {
                throw try field["\(name)-data"].error("is no base 64")
            }
            return .data(Array(data))
        }
        guard let path: String = try field[name].readIfPresent(), !path.isEmpty else { return nil }
        let material = ClusterAccess.Material.file(absolute(path))
        do {
            _ = try material.bytes()
        } catch {
            throw try field[name].error("\(absolute(path)) cannot be read: \(error.errno)")
        }
        return material
    }

    private func absolute(_ path: String) -> String {
        path.hasPrefix("/") || folder.isEmpty && !file.hasPrefix("/") ? path : "\(folder)/\(path)"
    }
}

extension FieldReader {
    /// Text that a header can carry.
    fileprivate func readHeaderValue() throws(FieldError) -> String {
        let text: String = try read()
        guard text.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7f }) else { throw error("holds control characters") }
        return text
    }
}
