public import JSONText

extension JSONValue {
    /// Input longer than this is refused unread; 8 MiB hold the attachment list of 60,000 pods.
    public static let sizeLimit = 8 << 20

    /// Parses one JSON document (RFC 8259), and nothing after it.
    public init(parsing bytes: [UInt8]) throws(JSONError) {
        guard bytes.count <= Self.sizeLimit else {
            throw JSONError(reason: "document longer than \(Self.sizeLimit) bytes", offset: Self.sizeLimit)
        }
        self = try JSONReader.document(in: bytes)
    }

    public init(parsing text: String) throws(JSONError) { try self.init(parsing: Array(text.utf8)) }
}

extension JSONValue: JSONTree {
    /// The reference plugins and the runtimes are written in Go.
    public static var repairsText: Bool { true }

    public static func number(reading text: String, isWhole: Bool) -> JSONValue? { .number(JSONNumber(checked: text)) }

    public static var emptyObject: JSONObject { JSONObject(members: []) }

    public static func append(_ key: String, _ value: JSONValue, to object: inout JSONObject) {
        object.append(.init(key: key, value: value))
    }
}
