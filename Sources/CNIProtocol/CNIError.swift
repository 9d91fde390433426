/// What a plugin answers when it fails: the specification's error object.
public struct CNIError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The specification's numbers below 100; ours and the reference plugins' above.
    public struct Code: RawRepresentable, Hashable, Sendable {
        public let rawValue: UInt

        public init(rawValue: UInt) { self.rawValue = rawValue }

        public static let incompatibleVersion = Code(rawValue: 1)
        /// The message names the key and its value.
        public static let unsupportedField = Code(rawValue: 2)
        /// The message names the variables.
        public static let invalidEnvironment = Code(rawValue: 4)
        public static let inputOutput = Code(rawValue: 5)
        public static let undecodable = Code(rawValue: 6)
        public static let invalidConfiguration = Code(rawValue: 7)
        public static let invalidNamespace = Code(rawValue: 8)
        public static let tryAgainLater = Code(rawValue: 11)
        public static let notAvailable = Code(rawValue: 50)
        /// Ours: the host port is another pod's.
        public static let portTaken = Code(rawValue: 101)
        /// The reference plugins' code for whatever has none of its own: the kernel refused, a check found a
        /// difference.
        public static let `internal` = Code(rawValue: 999)
    }

    public var code: Code
    public var message: String
    public var details: String

    public init(_ code: Code, _ message: String, details: String = "") {
        self.code = code
        self.message = message
        self.details = details
    }

    public var description: String { details.isEmpty ? message : "\(message); \(details)" }

    /// The error object in the shape of `version`.
    func json(as version: SpecVersion) -> JSONValue {
        var object: JSONObject = [
            "cniVersion": .string(version.description), "code": .number(JSONNumber(Int(code.rawValue))),
            "msg": .string(message),
        ]
        if !details.isEmpty { object["details"] = .string(details) }
        return .object(object)
    }
}

extension CNIError {
    /// Reads the error object that another plugin printed, or makes one of whatever it said instead.
    ///
    /// - Parameter plugin: the name of the plugin that failed, for the message.
    public init(printedBy plugin: String, output: [UInt8], diagnostics: String, status: Int32) {
        if let object = (try? JSONValue(parsing: output))?.object, let message = object["msg"]?.string {
            let code = object["code"]?.integer.flatMap(UInt.init(exactly:)) ?? 0
            self.init(Code(rawValue: code), message, details: object["details"]?.string ?? "")
        } else if !output.isEmpty {
            let text = String(decoding: output.prefix(4096), as: UTF8.self)
            self.init(
                .internal, "plugin \(plugin) failed with status \(status) and printed no error object", details: text)
        } else {
            self.init(.internal, "plugin \(plugin) failed with status \(status) and no message", details: diagnostics)
        }
    }
}
