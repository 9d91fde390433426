/// What every object says of itself.
public struct ObjectMetadata: Hashable, Sendable {
    public var name: String
    /// Empty for cluster-scoped kinds.
    public var namespace: String
    public var uid: String
    public var labels: [String: String]
    /// The object that controls this one: a pod's Deployment, for example.
    public var owner: ObjectReference?
    public var creationTimestamp: Timestamp?
    /// Set once deletion was asked for; a pod goes on running for its grace period.
    public var deletionTimestamp: Timestamp?

    public init(
        name: String,
        namespace: String = "default",
        uid: String = "",
        labels: [String: String] = [:],
        owner: ObjectReference? = nil,
        creationTimestamp: Timestamp? = nil,
        deletionTimestamp: Timestamp? = nil
    ) {
        self.name = name
        self.namespace = namespace
        self.uid = uid
        self.labels = labels
        self.owner = owner
        self.creationTimestamp = creationTimestamp
        self.deletionTimestamp = deletionTimestamp
    }

    public var key: NamespacedName { NamespacedName(namespace: namespace, name: name) }

    /// Reads `metadata` of an object of that kind.
    init(reading field: FieldReader, of kind: ObjectKind) throws(FieldError) {
        let key = try Self.key(reading: field, of: kind)
        name = key.name
        namespace = key.namespace
        uid = try field["uid"].readIfPresent() ?? ""
        labels = try field["labels"].readIfPresent() ?? [:]
        creationTimestamp = try field["creationTimestamp"].readIfPresent()
        deletionTimestamp = try field["deletionTimestamp"].readIfPresent()
        for element in try field["ownerReferences"].elements()
        where try element["controller"].readIfPresent() ?? false {
            let ownerKind = ObjectKind(try element["kind"].read())
            owner = ObjectReference(
                kind: ownerKind, namespace: ownerKind.isClusterScoped ? nil : namespace,
                name: try element["name"].read())
        }
    }

    /// Reads only what names the object.
    static func key(reading field: FieldReader, of kind: ObjectKind) throws(FieldError) -> NamespacedName {
        let name = try field["name"].read(as: DNSName.self)
        guard !kind.isClusterScoped else { return NamespacedName(namespace: "", name: name.text) }
        let namespace = try field["namespace"].readIfPresent(as: DNSName.self)
        return NamespacedName(namespace: namespace?.text ?? "default", name: name.text)
    }
}

/// A name that Kubernetes allows for objects: a DNS subdomain of RFC 1123.
///
/// Names end up in comments, file names and messages, so what is none never becomes a value.
struct DNSName: FieldReadable {
    let text: String

    init(reading field: FieldReader) throws(FieldError) {
        text = try field.read(as: String.self)
        guard Self.isValid(text, limit: 253) else {
            throw field.error("\(FieldValue.quoted(text)) is no name (lower-case letters, digits, '-' and '.')")
        }
    }

    /// Labels of lower-case letters, digits and inner dashes, between dots.
    static func isValid(_ text: String, limit: Int) -> Bool {
        guard (1...limit).contains(text.utf8.count) else { return false }
        return text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).allSatisfy { label in
            guard let first = label.first, let last = label.last else { return false }
            return first != UInt8(ascii: "-") && last != UInt8(ascii: "-")
                && label.allSatisfy { isLowerCaseOrDigit($0) || $0 == UInt8(ascii: "-") }
        }
    }

    private static func isLowerCaseOrDigit(_ byte: UInt8) -> Bool {
        UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte || UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte
    }
}
