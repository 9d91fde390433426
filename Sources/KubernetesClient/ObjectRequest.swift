/// A request a reflector makes of the API server.
public struct ObjectRequest: Hashable, Sendable {
    public enum Verb: String, Hashable, Sendable {
        case list
        case watch
    }

    public var verb: Verb
    public var path: String
    public var query: [Parameter]

    public struct Parameter: Hashable, Sendable {
        public var name: String
        public var value: String

        public init(_ name: String, _ value: String) {
            self.name = name
            self.value = value
        }
    }

    /// The value of a parameter; nil where it is not sent.
    public subscript(name: String) -> String? { query.first { $0.name == name }?.value }

    /// Path and query, with everything escaped that is not a plain character.
    public var target: String {
        guard !query.isEmpty else { return path }
        return path + "?" + query.map { "\($0.name)=\(Self.escaped($0.value))" }.joined(separator: "&")
    }

    /// RFC 3986: what is not unreserved is written as `%` and two digits.
    static func escaped(_ text: String) -> String {
        var result = ""
        for byte in text.utf8 {
            let character = Character(UnicodeScalar(byte))
            if byte < 0x80 && (character.isLetter || character.isNumber) || "-._~".utf8.contains(byte) {
                result.append(character)
            } else {
                result += byte < 0x10 ? "%0" : "%"
                result += String(byte, radix: 16, uppercase: true)
            }
        }
        return result
    }
}

extension ObjectRequest {
    /// How many objects a page has: what kubectl and client-go ask for.
    static let pageSize = 500

    /// A page of a list.
    ///
    /// - Parameter limit: Nil asks for everything at once.
    static func list(
        _ resource: WatchedResource, selectsFields: Bool, limit: Int?, continuing token: String
    ) -> ObjectRequest {
        var request = ObjectRequest(verb: .list, path: resource.path, query: [])
        if let limit { request.query.append(Parameter("limit", String(limit))) }
        if !token.isEmpty { request.query.append(Parameter("continue", token)) }
        request.addSelectors(of: resource, selectsFields: selectsFields)
        return request
    }

    /// A watch from a version on.
    ///
    /// - Parameter lifetime: After how many seconds the server may end it.
    static func watch(
        _ resource: WatchedResource, selectsFields: Bool, from version: String, lifetime: Int
    ) -> ObjectRequest {
        var request = ObjectRequest(
            verb: .watch, path: resource.path,
            query: [
                Parameter("watch", "1"), Parameter("allowWatchBookmarks", "true"),
                Parameter("timeoutSeconds", String(lifetime)), Parameter("resourceVersion", version),
            ])
        request.addSelectors(of: resource, selectsFields: selectsFields)
        return request
    }

    /// A watch that begins with everything there is.
    ///
    /// A server that does not know streaming lists refuses `resourceVersionMatch` in a watch; without that parameter
    /// an old one would stream and never say that the beginning is complete.
    static func stream(_ resource: WatchedResource, selectsFields: Bool, lifetime: Int) -> ObjectRequest {
        var request = ObjectRequest(
            verb: .watch, path: resource.path,
            query: [
                Parameter("watch", "1"), Parameter("sendInitialEvents", "true"),
                Parameter("resourceVersionMatch", "NotOlderThan"), Parameter("allowWatchBookmarks", "true"),
                Parameter("timeoutSeconds", String(lifetime)),
            ])
        request.addSelectors(of: resource, selectsFields: selectsFields)
        return request
    }

    private mutating func addSelectors(of resource: WatchedResource, selectsFields: Bool) {
        if !resource.labelSelector.isEmpty { query.append(Parameter("labelSelector", resource.labelSelector)) }
        if selectsFields, !resource.fieldSelector.isEmpty {
            query.append(Parameter("fieldSelector", resource.fieldSelector))
        }
    }
}
