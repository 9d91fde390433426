internal import JSONText

extension FieldValue: CustomStringConvertible {
    /// The tree as JSON, on one line.
    public var description: String {
        var text = ""
        write(to: &text)
        return text
    }

    private func write(to text: inout String) {
        switch self {
        case .null: text += "null"
        case .bool(let value): text += value ? "true" : "false"
        case .integer(let number): text += String(number)
        // JSON has no word for what is not finite.
        case .double(let number): text += number.isFinite ? number.description : "null"
        case .string(let string): string.writeJSON(to: &text)
        case .array(let elements):
            text += "["
            for (index, element) in elements.enumerated() {
                if index > 0 { text += "," }
                element.write(to: &text)
            }
            text += "]"
        case .object(let object):
            text += "{"
            for (index, entry) in object.entries.enumerated() {
                if index > 0 { text += "," }
                entry.key.writeJSON(to: &text)
                text += ":"
                entry.value.write(to: &text)
            }
            text += "}"
        }
    }
}
