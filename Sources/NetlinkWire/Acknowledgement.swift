/// The kernel's answer to a request as a whole: an error number, 0 for success, and its own words where it gave any.
public struct Acknowledgement: Hashable, Sendable {
    /// A positive error number; 0 for success.
    public var errorNumber: Int32
    /// `NLMSGERR_ATTR_MSG`, on sockets with `NETLINK_EXT_ACK`.
    public var message: String?

    public init(errorNumber: Int32, message: String? = nil) {
        self.errorNumber = errorNumber
        self.message = message
    }

    /// Reads a whole message of type `NLMSG_ERROR` or, at the end of a dump, `NLMSG_DONE`; nil for any other type.
    public init?(header: MessageHeader, message span: Span<UInt8>) throws(DecodeError) {
        var attributes: Int
        switch header.type {
        case Self.errorType:
            // Behind the number the request comes back: its header alone, or all of it (NLM_F_CAPPED says which).
            attributes = MessageHeader.size + 4
            let request = Int(try span.integer(at: attributes, as: UInt32.self))
            attributes += header.flags & Self.isCapped != 0 ? MessageHeader.size : aligned(request)
        case Self.doneType:
            attributes = MessageHeader.size + 4
        default:
            return nil
        }
        errorNumber = 0 &- (try span.integer(at: MessageHeader.size))
        guard header.flags & Self.hasAttributes != 0 else { return }
        var message: String?
        try span.forEachAttribute(from: attributes) { type, value throws(DecodeError) in
            if type == Self.messageAttribute { message = value.text() }
        }
        self.message = message
    }

    /// `NLMSG_ERROR`
    private static let errorType: UInt16 = 2
    /// `NLMSG_DONE`
    private static let doneType: UInt16 = 3
    /// `NLM_F_CAPPED`
    private static let isCapped: UInt16 = 0x100
    /// `NLM_F_ACK_TLVS`
    private static let hasAttributes: UInt16 = 0x200
    /// `NLMSGERR_ATTR_MSG`
    private static let messageAttribute: UInt16 = 1
}
