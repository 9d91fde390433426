internal import JSONText

extension JSONValue {
    /// The document on several lines, four spaces per level, as the reference plugins print it.
    public var text: String {
        var text = ""
        write(to: &text, indentation: "\n")
        return text
    }

    private func write(to text: inout String, indentation: String) {
        switch self {
        case .null: text += "null"
        case .bool(let truth): text += truth ? "true" : "false"
        case .number(let number): text += number.text
        case .string(let string): string.writeJSON(to: &text)
        case .array(let elements):
            Self.writeList(elements, "[", "]", to: &text, indentation: indentation) { element, text, deeper in
                element.write(to: &text, indentation: deeper)
            }
        case .object(let object):
            Self.writeList(object.members, "{", "}", to: &text, indentation: indentation) { member, text, deeper in
                member.key.writeJSON(to: &text)
                text += ": "
                member.value.write(to: &text, indentation: deeper)
            }
        }
    }

    private static func writeList<Element>(
        _ elements: [Element], _ open: String, _ close: String, to text: inout String, indentation: String,
        write: (Element, inout String, _ deeper: String) -> Void
    ) {
        text += open
        let deeper = indentation + "    "
        for (index, element) in elements.enumerated() {
            text += index == 0 ? deeper : "," + deeper
            write(element, &text, deeper)
        }
        text += elements.isEmpty ? close : indentation + close
    }
}
