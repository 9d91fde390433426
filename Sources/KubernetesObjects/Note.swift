/// One thing that is wrong with an object, and what was done about it.
///
/// Bad input is normal: it costs a note with its name, and nothing else is harmed.
public struct Note: Hashable, Sendable {
    public enum Severity: Hashable, Sendable {
        /// Something is not used; nothing that was asked for works differently because of it.
        case warning
        /// The object, or the named part of it, is not in force as written.
        case error
    }

    /// The file or stream the object came from; empty where there is none.
    public var source: String
    /// Nil where the problem lies before any object could be recognised.
    public var object: ObjectReference?
    /// The path of the field, such as `spec.ports[0].port`; empty for the object as a whole.
    public var field: String
    public var message: String
    public var severity: Severity

    public init(
        source: String = "",
        object: ObjectReference?,
        field: String = "",
        message: String,
        severity: Severity = .error
    ) {
        self.source = source
        self.object = object
        self.field = field
        self.message = message
        self.severity = severity
    }
}

extension Note: CustomStringConvertible {
    /// `shop.yaml: Service shop/web: spec.ports[0].port: 70000 is no port (1 to 65535)`.
    public var description: String {
        [source, object?.description ?? "", field, message].filter { !$0.isEmpty }.joined(separator: ": ")
    }
}
