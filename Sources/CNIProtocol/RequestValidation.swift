internal import NetworkAddresses

/// Tests the variables that `command` requires, in the specification's order, and gives the attachment they name.
func attachment(of command: String, environment: [String: String]) throws(CNIError) -> AttachmentID? {
    let namesAttachment = ["ADD", "CHECK", "DEL"].contains(command)
    let value = { (name: String) in environment[name] ?? "" }
    var missing: [String] = []
    var interface: InterfaceName?
    if namesAttachment {
        let containerID = value("CNI_CONTAINERID")
        if containerID.isEmpty { missing.append("CNI_CONTAINERID") } else { try checkContainerID(containerID) }
        if command != "DEL", value("CNI_NETNS").isEmpty { missing.append("CNI_NETNS") }
        let name = value("CNI_IFNAME")
        if name.isEmpty { missing.append("CNI_IFNAME") } else { interface = try interfaceName(name) }
    }
    if namesAttachment || command == "GC" || command == "STATUS", value("CNI_PATH").isEmpty {
        missing.append("CNI_PATH")
    }
    guard missing.isEmpty else {
        throw CNIError(.invalidEnvironment, "required env variables [\(missing.joined(separator: ","))] missing")
    }
    return interface.map { AttachmentID(containerID: value("CNI_CONTAINERID"), interface: $0) }
}

private func checkContainerID(_ text: String) throws(CNIError) {
    guard isPlainName(text) else {
        throw CNIError(.invalidEnvironment, "invalid characters in containerID", details: String(text.prefix(200)))
    }
}

/// Whether a text is a name in the specification's sense: a letter or digit, then letters, digits, `_`, `.` and `-`.
private func isPlainName(_ text: String) -> Bool {
    let isAlphanumeric = { (byte: UInt8) in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: false
        }
    }
    guard let first = text.utf8.first, isAlphanumeric(first) else { return false }
    return text.utf8.allSatisfy {
        isAlphanumeric($0) || $0 == UInt8(ascii: "_") || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "-")
    }
}

private func interfaceName(_ text: String) throws(CNIError) -> InterfaceName {
    guard text.utf8.count <= 15 else {
        throw CNIError(
            .invalidEnvironment, "CNI_IFNAME: interface name is too long",
            details: "interface name should be less than 16 characters")
    }
    guard text != ".", text != ".." else {
        throw CNIError(.invalidEnvironment, "CNI_IFNAME: interface name is . or ..")
    }
    guard !text.unicodeScalars.contains(where: \.properties.isWhitespace), let name = InterfaceName(text) else {
        throw CNIError(
            .invalidEnvironment, "CNI_IFNAME: interface name contains / or : or whitespace characters")
    }
    return name
}

/// The configuration as an object with a usable network name.
func namedObject(_ bytes: [UInt8]) throws(CNIError) -> JSONObject {
    let value: JSONValue
    do {
        value = try JSONValue(parsing: bytes)
    } catch {
        throw CNIError(.undecodable, "error unmarshall network config: \(error)")
    }
    guard let object = value.object else {
        throw CNIError(.undecodable, "error unmarshall network config: expected an object, found \(value.kind)")
    }
    let name: String
    switch object["name"] {
    case .string(let text): name = text
    case nil, .null: name = ""
    case .some(let other):
        throw CNIError(.undecodable, "error unmarshall network config: name: expected a string, found \(other.brief)")
    }
    guard !name.isEmpty else { throw CNIError(.invalidConfiguration, "missing network name") }
    guard isPlainName(name) else {
        throw CNIError(
            .invalidConfiguration, "invalid characters found in network name", details: String(name.prefix(200)))
    }
    return object
}

/// The version that the configuration is in and the answer must be in.
func agreedVersion(of json: JSONObject, for verb: Verb) throws(CNIError) -> SpecVersion {
    let text: String
    switch json["cniVersion"] {
    case .string(""), nil, .null: text = SpecVersion.v0_1_0.description
    case .string(let stated): text = stated
    case .some(let other):
        throw CNIError(
            .undecodable, "decoding version from network config: cniVersion: expected a string, found \(other.brief)")
    }
    if verb.firstVersion > .v0_1_0 {
        guard let stated = SpecVersion(text) else {
            throw CNIError(.undecodable, "decoding version from network config: invalid version \"\(text)\"")
        }
        guard stated >= verb.firstVersion else {
            throw CNIError(.incompatibleVersion, "config version does not allow \(verb.rawValue)")
        }
        guard stated <= .current else {
            throw CNIError(.incompatibleVersion, "plugin version does not allow \(verb.rawValue)")
        }
    }
    guard let version = SpecVersion.supported.first(where: { $0.description == text }) else {
        let versions = SpecVersion.supported.map { "\"\($0)\"" }.joined(separator: " ")
        throw CNIError(
            .incompatibleVersion, "incompatible CNI versions",
            details: "config is \"\(text)\", plugin supports [\(versions)]")
    }
    return version
}
