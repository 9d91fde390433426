internal import KubernetesObjects
internal import NetworkAddresses

/// A trace for a person: verdict, cause and what would help in the first lines, then the hops, node by node.
public struct TraceText {
    /// Colour repeats what the marks say, and never says anything alone.
    public var isColoured: Bool
    /// Every branch and every step of the answers, and where each statement comes from.
    public var isVerbose: Bool

    public init(isColoured: Bool = false, isVerbose: Bool = false) {
        self.isColoured = isColoured
        self.isVerbose = isVerbose
    }

    public func text(_ trace: Trace) -> String {
        var lines = [headline(trace)]
        let leading = trace.leading
        if !leading.end.cause.isEmpty, leading.end.verdict != .reachable {
            lines.append(label("cause", leading.end.cause))
        }
        for finding in trace.findings { lines.append(label("warning", finding.text)) }
        if let nearMiss = leading.nearMiss {
            lines.append(label("nearest", nearMiss.text))
            lines += options(nearMiss)
        }
        let shown = isVerbose ? trace.branches : [leading]
        for branch in shown {
            if shown.count > 1, let backend = branch.backend {
                lines.append(
                    " \(mark(branch.end.verdict)) backend \(backend.name), \(backend.number) of \(backend.count)")
            }
            lines += hops(branch.hops, trace)
            lines += reply(branch, trace)
        }
        if !isVerbose { lines += trace.branches.filter { $0 != leading }.map { summary($0, beside: leading) } }
        lines.append(evidence(trace))
        return lines.joined(separator: "\n") + "\n"
    }

    // MARK: - First lines

    private func headline(_ trace: Trace) -> String {
        let word = trace.verdict.rawValue.uppercased()
        var line = paint("\(mark(trace.verdict)) \(word)", trace.verdict) + " \(trace.from) → \(trace.to)"
        let leading = trace.leading
        let failed = trace.branches.filter { $0.end.verdict != .reachable }
        switch trace.verdict {
        case .reachable where trace.branches.count > 1: line += "   all \(trace.branches.count) backends"
        case .reachable: line += leading.backend.map { "   \($0.name)" } ?? ""
        case .denied, .broken, .inconclusive, .partial:
            if trace.branches.count == 1 {
                line += leading.backend.map { "   \($0.name)" } ?? ""
            } else {
                line += "   \(failed.count) of \(trace.branches.count) backends"
                line += trace.verdict == .partial ? " \(leading.end.verdict.rawValue.uppercased())" : ""
                line += failed.count == 1 ? ": \(leading.backend?.name ?? "?")" : ""
            }
            line += "   " + location(leading.end)
        }
        return line
    }

    /// `at node-2, ingress  (PolicyImplicitDeny)`.
    private func location(_ end: PathEnd) -> String {
        var place = "at \(end.place)"
        if case .pod(_, let node) = end.place { place += " on \(node)" }
        return place + (end.denial.map { ", \($0.direction.word)" } ?? "") + "  (\(end.reason.rawValue))"
    }

    private func options(_ nearMiss: NearMiss) -> [String] {
        guard nearMiss.options.count > 1 else {
            return nearMiss.options.map { label("option", $0 + "   (widens access: review)") }
        }
        return zip(["a)", "b)", "c)", "d)"], nearMiss.options).enumerated().map { index, option in
            label(
                index == 0 ? "options" : "",
                "\(option.0) \(option.1)" + (index == 0 ? "   (widens access: review)" : ""))
        }
    }

    private func label(_ name: String, _ text: String) -> String { "  " + name.padded(to: 8) + text }

    // MARK: - Hops

    private func hops(_ hops: [Hop], _ trace: Trace, from first: Int = 1) -> [String] {
        var lines: [String] = []
        var node = ""
        for (index, hop) in hops.enumerated() {
            if hop.place.node != node {
                node = hop.place.node
                lines.append(" " + node + pods(of: node, trace))
            }
            var line = line(index + first, hop.status, hop.stage.rawValue, hop.text)
            let isRemarkable = hop.status != .ok && hop.status != .warning
            if isVerbose || isRemarkable, let location = hop.evidence.location { line += "  [\(location)]" }
            if isVerbose { line += "  \(hop.evidence.source.rawValue)" }
            lines.append(line)
        }
        return lines
    }

    /// `  3 ✓ route      default via 169.254.1.1 dev eth0`.
    private func line(_ number: Int, _ status: Hop.Status, _ stage: String, _ text: String) -> String {
        let digits = String(number)
        return String(repeating: " ", count: max(0, 3 - digits.count)) + digits
            + " \(paint(mark(status), status)) \(stage.padded(to: 11))\(text)"
    }

    /// The ends of the connection that are on the node.
    private func pods(of node: String, _ trace: Trace) -> String {
        var names: [String] = []
        for hop in trace.branches.flatMap(\.hops) where hop.place.node == node {
            guard case .pod(let key, _) = hop.place, !names.contains(key.description) else { continue }
            names.append(key.description)
        }
        return names.isEmpty ? "" : "  " + names.joined(separator: ", ")
    }

    private func reply(_ branch: Trace.Branch, _ trace: Trace) -> [String] {
        guard !branch.reply.isEmpty else { return [] }
        let isBroken = branch.end.verdict != .reachable
        guard isVerbose || isBroken else {
            let nodes = branch.reply.map(\.place.node).reduce(into: [String]()) { if $0.last != $1 { $0.append($1) } }
            let translated = branch.reply.first { $0.stage == .service }
            let how = translated.map { "; \($0.text)" } ?? ""
            let text = "back by \(nodes.joined(separator: ", "))\(how)"
            return [line(branch.hops.count + 1, .ok, "reply", text)]
        }
        return [" reply"] + hops(branch.reply, trace, from: branch.hops.count + 1)
    }

    /// Another backend than the one shown, in a line; its cause where that is another.
    private func summary(_ branch: Trace.Branch, beside leading: Trace.Branch) -> String {
        let name = branch.backend.map { "backend \($0.name)" } ?? "another way"
        let nodes = branch.hops.map(\.place.node).reduce(into: [String]()) { if $0.last != $1 { $0.append($1) } }
        var how = "by \(nodes.joined(separator: ", "))"
        if branch.end.verdict != .reachable {
            how = "\(branch.end.verdict.rawValue.uppercased()) \(location(branch.end))"
            if branch.end.reason != leading.end.reason { how += ": \(branch.end.cause)" }
        }
        return "  · \(paint(mark(branch.end.verdict), branch.end.verdict)) \(name): \(how)"
    }

    private func evidence(_ trace: Trace) -> String {
        let sources = trace.branches.flatMap { $0.hops + $0.reply }.map(\.evidence.source)
        let counts: [(Evidence.Source, String)] = [
            (.kernelLookup, "kernel"), (.computed, "computed"), (.cluster, "cluster"), (.observed, "observed"),
            (.assumed, "assumed"),
        ]
        let text = counts.compactMap { source, name in
            let count = sources.filter { $0 == source }.count
            return count == 0 ? nil : "\(count) \(name)"
        }
        return " evidence: " + (text.isEmpty ? "the cluster's objects" : text.joined(separator: ", "))
            + "; a new connection is assumed"
    }

    // MARK: - Marks

    private func mark(_ verdict: PathVerdict) -> String {
        switch verdict {
        case .reachable: "✓"
        case .denied, .broken, .partial: "✗"
        case .inconclusive: "?"
        }
    }

    private func mark(_ status: Hop.Status) -> String {
        switch status {
        case .ok: "✓"
        case .denied, .broken: "✗"
        case .warning: "!"
        case .unknown: "?"
        }
    }

    private func paint(_ text: String, _ verdict: PathVerdict) -> String {
        switch verdict {
        case .reachable: paint(text, Hop.Status.ok)
        case .denied, .broken: paint(text, Hop.Status.broken)
        case .partial, .inconclusive: paint(text, Hop.Status.warning)
        }
    }

    private func paint(_ text: String, _ status: Hop.Status) -> String {
        guard isColoured else { return text }
        let code =
            switch status {
            case .ok: 32
            case .denied, .broken: 31
            case .warning, .unknown: 33
            }
        return "\u{1b}[\(code)m\(text)\u{1b}[0m"
    }
}

extension Trace {
    /// What is not as it should be although packets pass, each once.
    var findings: [Finding] {
        branches.flatMap(\.findings).reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
    }
}

extension String {
    fileprivate func padded(to width: Int) -> String {
        self + String(repeating: " ", count: max(1, width - count))
    }
}
