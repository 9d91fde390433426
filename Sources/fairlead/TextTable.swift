import KernelInterface

/// Rows in columns, as kubectl prints them.
struct TextTable {
    private var rows: [[String]]

    init(_ header: [String]) { rows = [header] }

    var isEmpty: Bool { rows.count == 1 }

    /// A cell without text shows `<none>`, so that columns can be told apart by programs too.
    mutating func add(_ row: [String]) { rows.append(row.map { $0.isEmpty ? "<none>" : $0 }) }

    var text: String {
        let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            let last = row.count - 1
            return row.enumerated().map { column, cell in
                // Nothing after the last column: lines do not end in blanks.
                column == last ? cell : cell + String(repeating: " ", count: widths[column] - cell.count)
            }.joined(separator: "   ") + "\n"
        }.joined()
    }

    func print() throws { try StandardStreams.writeOutput(text) }
}
