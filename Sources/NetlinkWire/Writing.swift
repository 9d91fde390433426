/// Writes the attributes of a netlink message, each length filled in once its content is known.
public struct AttributeWriter: ~Copyable {
    private(set) var bytes: [UInt8] = []

    /// An attribute whose content `body` writes.
    public mutating func attribute(_ type: UInt16, _ body: (inout AttributeWriter) -> Void) {
        let start = bytes.count
        append(UInt16(0))
        append(type)
        body(&self)
        patch(UInt16(truncatingIfNeeded: bytes.count - start), at: start)
        pad()
    }

    /// An attribute that holds attributes (`NLA_F_NESTED`).
    public mutating func attribute(nested type: UInt16, _ body: (inout AttributeWriter) -> Void) {
        attribute(type | 0x8000, body)
    }

    /// A number in the host's byte order.
    public mutating func attribute<Integer: FixedWidthInteger>(_ type: UInt16, _ number: Integer) {
        attribute(type) { $0.append(number) }
    }

    /// A number in network byte order.
    public mutating func attribute<Integer: FixedWidthInteger>(_ type: UInt16, bigEndian number: Integer) {
        attribute(type) { $0.append(bigEndian: number) }
    }

    public mutating func attribute(_ type: UInt16, bytes content: [UInt8]) {
        attribute(type) { $0.append(bytes: content) }
    }

    /// Text with a terminating zero.
    public mutating func attribute(_ type: UInt16, text: String) {
        attribute(type) { $0.append(bytes: Array(text.utf8) + [0]) }
    }

    /// A number in the host's byte order.
    public mutating func append<Integer: FixedWidthInteger>(_ number: Integer) {
        append(bigEndian: Integer(bigEndian: 1) == 1 ? number : number.byteSwapped)
    }

    /// A number in network byte order.
    public mutating func append<Integer: FixedWidthInteger>(bigEndian number: Integer) {
        for shift in stride(from: Integer.bitWidth - 8, through: 0, by: -8) {
            bytes.append(UInt8(truncatingIfNeeded: number >> shift))
        }
    }

    public mutating func append(bytes content: [UInt8]) { bytes += content }

    private mutating func patch<Integer: FixedWidthInteger>(_ number: Integer, at start: Int) {
        var writer = AttributeWriter()
        writer.append(number)
        bytes.replaceSubrange(start..<start + writer.bytes.count, with: writer.bytes)
    }

    private mutating func pad() {
        bytes += repeatElement(0, count: aligned(bytes.count) - bytes.count)
    }

    /// A whole message: header, then what `body` writes.
    ///
    /// The sequence number and the sender are left 0; the socket that sends the message fills them in.
    public static func message(type: UInt16, flags: UInt16, _ body: (inout AttributeWriter) -> Void) -> [UInt8] {
        var writer = AttributeWriter()
        writer.append(UInt32(0))
        writer.append(type)
        writer.append(flags)
        writer.append(UInt32(0))
        writer.append(UInt32(0))
        body(&writer)
        writer.patch(UInt32(writer.bytes.count), at: 0)
        return writer.bytes
    }
}
