public import KubernetesObjects
import Yams

/// The text of manifest files.
public enum ManifestText {
    /// A longer file is not read: the largest of real clusters' manifests are a tenth of it.
    public static let sizeLimit = 8 << 20

    /// Reads the documents of a file, be it YAML or JSON.
    public static func documents(in bytes: [UInt8]) throws(SyntaxError) -> [FieldValue] {
        guard bytes.count <= sizeLimit else {
            throw SyntaxError(line: 1, message: "is longer than \(sizeLimit >> 20) MiB")
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw SyntaxError(line: 1, message: "is no UTF-8")
        }
        // As kubectl decides it. YAML has its own notation in braces, so what is no JSON may still be that.
        let first = bytes.first { ![0x20, 0x09, 0x0a, 0x0d].contains($0) }
        if first == UInt8(ascii: "{") {
            do throws(SyntaxError) {
                return try FieldValue.all(json: bytes)
            } catch {
                let documents = try? YAMLReader.documents(in: text)
                guard let documents else { throw error }
                return documents
            }
        }
        return try YAMLReader.documents(in: text)
    }

    /// Writes trees as the documents of a YAML file.
    public static func yaml(_ documents: [FieldValue]) -> String {
        var text = ""
        for document in documents {
            if !text.isEmpty { text += "---\n" }
            do {
                text += try serialize(node: document.node, width: -1, allowUnicode: true)
            } catch {
                // JSON is YAML too, and cannot fail.
                text += document.description + "\n"
            }
        }
        return text
    }
}

extension FieldValue {
    fileprivate var node: Yams.Node {
        switch self {
        case .null: Yams.Node("null")
        case .bool(let value): Yams.Node(value ? "true" : "false")
        case .integer(let number): Yams.Node(String(number))
        case .double(let number): Yams.Node(number.isFinite ? number.description : "null")
        case .string(let text): Self.node(of: text)
        case .array(let elements):
            .sequence(.init(elements.map(\.node), .implicit, elements.isEmpty ? .flow : .block))
        case .object(let object):
            .mapping(
                .init(
                    object.entries.map { (Self.node(of: $0.key), $0.value.node) }, .implicit,
                    object.entries.isEmpty ? .flow : .block))
        }
    }

    /// Text is quoted where it would otherwise be read as something else.
    private static func node(of text: String) -> Yams.Node {
        let isPlain = YAMLScalar.value(of: text) == .string(text) && text != "<<"
        let style: Yams.Node.Scalar.Style =
            if !isPlain { .doubleQuoted } else if text.contains("\n") { .literal } else { .any }
        return .scalar(.init(text, Tag(.str), style))
    }
}
