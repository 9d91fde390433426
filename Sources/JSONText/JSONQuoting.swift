extension String {
    /// Appends the string to `text` as JSON writes it: in quotes, with what it does not allow escaped.
    public func writeJSON(to text: inout String) {
        text += "\""
        // What needs no escape goes over in one piece: mostly that is all of it.
        var rest = self[...]
        while let place = rest.utf8.firstIndex(where: { $0 < 0x20 || $0 == 0x22 || $0 == 0x5C }) {
            text += rest[..<place]
            text += Self.escape(of: rest.utf8[place])
            rest = rest[rest.utf8.index(after: place)...]
        }
        text += rest
        text += "\""
    }

    private static func escape(of byte: UInt8) -> String {
        switch byte {
        case UInt8(ascii: "\n"): "\\n"
        case UInt8(ascii: "\r"): "\\r"
        case UInt8(ascii: "\t"): "\\t"
        case ..<0x20: "\\u00" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
        default: "\\" + String(UnicodeScalar(byte))
        }
    }
}
