public import NetworkAddresses

/// Reads the keys of one object of a configuration and names the key at fault when a value is none.
///
/// Keys match in any case, `null` is the same as absent, and keys that nobody asks for are nobody's concern.
public struct ConfigurationReader: Sendable {
    public let object: JSONObject
    /// Where the object stands, such as `ipam.ranges[0][1]`; empty for the configuration itself.
    let path: String

    public init(_ object: JSONObject, path: String = "") {
        self.object = object
        self.path = path
    }

    private func name(of key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

    private func value(_ key: String) -> JSONValue? {
        guard let value = object[key], value != .null else { return nil }
        return value
    }

    /// The error for a value of this key that cannot be used.
    public func fault(_ key: String, _ reason: String) -> CNIError {
        CNIError(.invalidConfiguration, "\(name(of: key)): \(reason)")
    }

    private func value<Value>(
        _ key: String, as kind: String, _ convert: (JSONValue) -> Value?
    ) throws(CNIError) -> Value? {
        guard let found = value(key) else { return nil }
        guard let converted = convert(found) else { throw fault(key, "expected \(kind), found \(found.brief)") }
        return converted
    }

    public func string(_ key: String) throws(CNIError) -> String? { try value(key, as: "a string", \.string) }

    public func integer(_ key: String) throws(CNIError) -> Int? { try value(key, as: "a whole number", \.integer) }

    public func bool(_ key: String) throws(CNIError) -> Bool? {
        try value(key, as: "true or false") { if case .bool(let truth) = $0 { truth } else { nil } }
    }

    /// The object under `key`, or an empty one: an absent object and one without the asked keys are the same.
    public func object(_ key: String) throws(CNIError) -> ConfigurationReader {
        try optionalObject(key) ?? ConfigurationReader([:], path: name(of: key))
    }

    /// The object under `key`, where absence means something.
    public func optionalObject(_ key: String) throws(CNIError) -> ConfigurationReader? {
        try value(key, as: "an object", \.object).map { ConfigurationReader($0, path: name(of: key)) }
    }

    /// The objects in the array under `key`.
    public func objects(_ key: String) throws(CNIError) -> [ConfigurationReader] {
        let elements = try value(key, as: "an array", \.array) ?? []
        return try Self.objects(elements, path: name(of: key))
    }

    /// The objects in the array of arrays under `key`.
    public func objectLists(_ key: String) throws(CNIError) -> [[ConfigurationReader]] {
        var lists: [[ConfigurationReader]] = []
        for (index, element) in (try value(key, as: "an array", \.array) ?? []).enumerated() {
            guard let elements = element.array else {
                throw fault("\(key)[\(index)]", "expected an array, found \(element.brief)")
            }
            lists.append(try Self.objects(elements, path: "\(name(of: key))[\(index)]"))
        }
        return lists
    }

    private static func objects(_ elements: [JSONValue], path: String) throws(CNIError) -> [ConfigurationReader] {
        var readers: [ConfigurationReader] = []
        for (index, element) in elements.enumerated() {
            guard let object = element.object else {
                throw CNIError(.invalidConfiguration, "\(path)[\(index)]: expected an object, found \(element.brief)")
            }
            readers.append(ConfigurationReader(object, path: "\(path)[\(index)]"))
        }
        return readers
    }

    public func strings(_ key: String) throws(CNIError) -> [String] {
        try value(key, as: "an array of strings") { value in
            value.array.flatMap { elements in
                let strings = elements.compactMap(\.string)
                return strings.count == elements.count ? strings : nil
            }
        } ?? []
    }

    /// The value under `key`, read from its text; an empty text is the same as absent, as in the reference plugins.
    public func text<Value: LosslessStringConvertible>(
        _ key: String, as kind: String, _: Value.Type = Value.self
    ) throws(CNIError) -> Value? {
        guard let text = try string(key), !text.isEmpty else { return nil }
        guard let value = Value(text) else { throw fault(key, "\(JSONValue.string(text).brief) is no \(kind)") }
        return value
    }

    public func address(_ key: String) throws(CNIError) -> IPAddress? { try text(key, as: "IP address") }

    public func prefix(_ key: String) throws(CNIError) -> IPPrefix? {
        try text(key, as: "address with a prefix length, such as 10.1.2.3/24")
    }
}

extension JSONValue {
    /// The value for a message: what it is, and a short one in full.
    var brief: String {
        switch self {
        case .null, .array, .object: kind
        case .bool, .number: text
        case .string(let string) where string.utf8.count <= 100: text
        case .string(let string): "a string of \(string.utf8.count) bytes"
        }
    }
}
