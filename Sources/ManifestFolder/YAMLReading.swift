import KubernetesObjects
import Yams

/// Reads the YAML documents of one text into trees.
///
/// Yams does the parsing; what it leaves open is decided here: which words are numbers, that a repeated key reaches the
/// tree where it can be named, and that a text cannot unfold into more than it could hold written out.
struct YAMLReader {
    /// More repeated keys than anyone mistypes in one file; each costs another pass.
    private static let repeatedKeyLimit = 8
    /// Deeper values than any object has would only use up the stack.
    private static let depthLimit = 100

    let text: String
    private var nodesLeft: Int

    private init(text: String) {
        self.text = text
        // A node takes at least one byte to write; the rest is for what is written once and referred to.
        nodesLeft = 2 * text.utf8.count + 10_000
    }

    static func documents(in text: String) throws(SyntaxError) -> [FieldValue] {
        if let line = AliasScan(text).suspiciousLine {
            throw SyntaxError(line: line, message: "has aliases within keys")
        }
        var text = text
        var passes = repeatedKeyLimit
        while true {
            do throws(YAMLFailure) {
                var reader = YAMLReader(text: text)
                return try reader.documents()
            } catch {
                guard case .repeatedKey(let key, let line, let column) = error, passes > 0,
                    let marked = RepeatedKey.marked(key, in: text, line: line, column: column)
                else { throw error.syntaxError }
                passes -= 1
                text = marked
            }
        }
    }

    private mutating func documents() throws(YAMLFailure) -> [FieldValue] {
        var documents: [FieldValue] = []
        do {
            // Without rules: Yams would try a regular expression on each scalar.
            let parser = try Parser(yaml: text, resolver: .basic, encoding: .utf8)
            while let root = try parser.nextRoot() {
                let document = try value(of: root, depth: 0)
                // Between two separators there may be nothing but comments.
                if document != .null { documents.append(document) }
            }
        } catch {
            throw YAMLFailure(error, in: text)
        }
        return documents
    }

    private mutating func value(of node: Yams.Node, depth: Int) throws(YAMLFailure) -> FieldValue {
        let line = node.mark?.line ?? 1
        guard depth < Self.depthLimit else {
            throw .syntax(SyntaxError(line: line, message: "is nested more than \(Self.depthLimit) deep"))
        }
        nodesLeft -= 1
        guard nodesLeft > 0 else {
            throw .syntax(SyntaxError(line: line, message: "unfolds into far more than is written"))
        }
        switch node {
        case .scalar(let scalar): return try value(of: scalar)
        case .sequence(let sequence):
            var elements: [FieldValue] = []
            elements.reserveCapacity(sequence.count)
            for element in sequence { elements.append(try value(of: element, depth: depth + 1)) }
            return .array(elements)
        case .mapping(let mapping): return .object(try object(of: mapping, depth: depth))
        case .alias:
            // Parsing has put the node itself in the alias' place.
            throw .syntax(SyntaxError(line: line, message: "has an alias of nothing"))
        }
    }

    private func value(of scalar: Yams.Node.Scalar) throws(YAMLFailure) -> FieldValue {
        switch scalar.tag.description {
        case "": return scalar.style == .plain ? YAMLScalar.value(of: scalar.string) : .string(scalar.string)
        case "!", Tag.Name.str.rawValue: return .string(scalar.string)
        case Tag.Name.int.rawValue, Tag.Name.float.rawValue, Tag.Name.bool.rawValue, Tag.Name.null.rawValue:
            return YAMLScalar.value(of: scalar.string)
        default:
            throw .syntax(SyntaxError(line: scalar.mark?.line ?? 1, message: "has a tag that is not known"))
        }
    }

    private mutating func object(of mapping: Yams.Node.Mapping, depth: Int) throws(YAMLFailure) -> FieldObject {
        var object = FieldObject()
        var merged: [FieldObject] = []
        for (key, value) in mapping {
            guard case .scalar(let scalar) = key else {
                throw .syntax(SyntaxError(line: key.mark?.line ?? 1, message: "has a key that is no text"))
            }
            if scalar.style == .plain, scalar.string == "<<" {
                merged += try merges(of: value, depth: depth)
            } else {
                object.entries.append(
                    .init(key: RepeatedKey.unmarked(scalar.string), value: try self.value(of: value, depth: depth + 1)))
            }
        }
        // What is written in the map itself counts, then what was merged first.
        for entry in merged.flatMap(\.entries) where object[entry.key] == nil { object.entries.append(entry) }
        return object
    }

    private mutating func merges(of node: Yams.Node, depth: Int) throws(YAMLFailure) -> [FieldObject] {
        let value = try value(of: node, depth: depth + 1)
        switch value {
        case .object(let object): return [object]
        case .array(let elements):
            var objects: [FieldObject] = []
            for case .object(let object) in elements { objects.append(object) }
            guard objects.count == elements.count else { fallthrough }
            return objects
        default: throw .syntax(SyntaxError(line: node.mark?.line ?? 1, message: "merges what is no map"))
        }
    }
}

/// Why a text was not read.
private enum YAMLFailure: Error {
    case syntax(SyntaxError)
    case repeatedKey(String, line: Int, column: Int)

    init(_ error: any Error, in text: String) {
        switch error {
        case let failure as YAMLFailure: self = failure
        case YamlError.scanner(_, let problem, let mark, _), YamlError.parser(_, let problem, let mark, _),
            YamlError.composer(_, let problem, let mark, _):
            self = .syntax(SyntaxError(line: mark.line, message: problem))
        case YamlError.reader(let problem, let offset, _, _):
            let before = text.utf8.prefix(offset ?? 0)
            self = .syntax(SyntaxError(line: before.count { $0 == UInt8(ascii: "\n") } + 1, message: problem))
        case YamlError.duplicatedKeysInMapping(let keys, let context):
            self = .repeatedKey(keys.first ?? "", line: context.mark.line, column: context.mark.column)
        default: self = .syntax(SyntaxError(line: 1, message: "\(error)"))
        }
    }

    var syntaxError: SyntaxError {
        switch self {
        case .syntax(let error): error
        case .repeatedKey(_, let line, _): SyntaxError(line: line, message: "has a key that is given twice")
        }
    }
}

/// Carries repeated keys past Yams, which gives up a whole file for one of them.
///
/// The file is read again with a mark before the key, so that it is a key of its own; taking the mark off the tree's
/// keys brings back both, and whoever reads the tree can say which object and field has them.
private enum RepeatedKey {
    /// A character of the private use area, which no manifest has.
    static let mark: UnicodeScalar = "\u{e000}"

    /// The text with the mark before the key at that place (counted from 1); nil where the key is written otherwise.
    static func marked(_ key: String, in text: String, line: Int, column: Int) -> String? {
        var scalars = text.unicodeScalars
        var position = scalars.startIndex
        for _ in 1..<max(line, 1) {
            guard let newline = scalars[position...].firstIndex(of: "\n") else { return nil }
            position = scalars.index(after: newline)
        }
        for _ in 1..<max(column, 1) {
            guard position < scalars.endIndex, scalars[position] != "\n" else { return nil }
            position = scalars.index(after: position)
        }
        guard position < scalars.endIndex else { return nil }
        if scalars[position] == "\"" || scalars[position] == "'" { position = scalars.index(after: position) }
        guard scalars[position...].starts(with: key.unicodeScalars) else { return nil }
        scalars.insert(mark, at: position)
        return String(scalars)
    }

    static func unmarked(_ key: String) -> String {
        key.unicodeScalars.first == mark ? String(key.unicodeScalars.drop { $0 == mark }) : key
    }
}

/// A look at a text before it is parsed, for aliases that could unfold while keys are compared.
///
/// Yams compares the keys of each map with all that their aliases stand for, so a short text could keep it busy for
/// years. Values are counted while they unfold; keys cannot be, so a text that has many aliases *and* anything that
/// looks like a key made of them is refused unread.
private struct AliasScan {
    /// With so few aliases, a key can be forty times the text at most.
    private static let harmlessCount = 10

    private(set) var suspiciousLine: Int?

    init(_ text: String) {
        var aliases = 0
        var hasAnchor = false
        var line = 1
        var lineOfKey: Int?
        var previous = UInt8(ascii: "\n")
        var isAfterAliasOrBracket = false
        var isInAlias = false
        for byte in text.utf8 {
            let startsToken = " \t\r\n[{,".utf8.contains(previous)
            switch byte {
            case UInt8(ascii: "\n"): line += 1
            case UInt8(ascii: "&") where startsToken: hasAnchor = true
            case UInt8(ascii: "*") where startsToken:
                aliases += 1
                isInAlias = true
            case UInt8(ascii: ":") where isAfterAliasOrBracket || isInAlias: lineOfKey = lineOfKey ?? line
            case UInt8(ascii: " ") where previous == UInt8(ascii: "?"): lineOfKey = lineOfKey ?? line
            default: break
            }
            let isBlank = byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t")
            let closes = byte == UInt8(ascii: "]") || byte == UInt8(ascii: "}")
            isAfterAliasOrBracket = closes || isBlank && (isAfterAliasOrBracket || isInAlias)
            if isBlank || byte == UInt8(ascii: "\n") { isInAlias = false }
            previous = byte
        }
        if hasAnchor, aliases > Self.harmlessCount { suspiciousLine = lineOfKey }
    }
}
