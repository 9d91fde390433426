import KubernetesObjects
import NodeDuties

/// The pages of a node, by kube-proxy's paths.
struct NodePages: Sendable {
    let state: DutyState
    /// The configuration as it is in force.
    let document: FieldValue
    /// The command line.
    let options: [String]
    /// What else `/statusz` says.
    let status: [(name: String, value: String)]

    /// For load balancers and kubelets.
    func health(_ request: PageRequest) -> Page? {
        switch request.path {
        case "/healthz": page(state.healthz, type: "application/json")
        case "/livez": page(state.livez, type: "application/json")
        case "/readyz": page(state.readyz, type: "text/plain; charset=utf-8")
        default: nil
        }
    }

    private static let paths = [
        "/configz", "/flagz", "/healthz", "/metrics", "/metrics/slis", "/proxyMode", "/statusz",
    ]

    /// For monitoring and people.
    func metrics(_ request: PageRequest) -> Page? {
        switch request.path {
        case "/metrics": Page(type: ProxyMetrics.contentType, body: state.metrics)
        case "/metrics/slis": Page(type: ProxyMetrics.contentType, body: state.serviceLevel)
        // What programs that ask mean by it: where node ports answer, and how rules are made.
        case "/proxyMode": Page(body: "nftables")
        case "/configz":
            Page(
                type: "application/json",
                body: FieldValue.object(
                    FieldObject([.init(key: "kubeproxy.config.k8s.io", value: document)])
                ).description)
        case "/healthz": Page(body: "ok")
        case "/flagz": Page(body: Self.forPeople("flagz", optionLines))
        case "/statusz": Page(body: Self.forPeople("statusz", statusLines))
        default: nil
        }
    }

    private func page(_ answer: ProxyHealth.Answer, type: String) -> Page {
        Page(code: answer.code, type: type, body: answer.body)
    }

    // MARK: - For people

    /// A page as Kubernetes' components have them, with their words about what it is good for.
    private static func forPeople(_ name: String, _ lines: [String]) -> String {
        """

        fairlead-agent \(name)
        Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is \
        for debugging purposes only.

        """ + lines.map { $0 + "\n" }.joined()
    }

    /// The options that were given; what the others amount to is in `/configz`.
    private var optionLines: [String] {
        var lines: [String] = []
        var options = options[...]
        while let option = options.popFirst() {
            let name = option.drop { $0 == "-" }.prefix { $0 != "=" }
            let value: Substring? =
                if let equals = option.firstIndex(of: "=") {
                    option[option.index(after: equals)...]
                } else if let next = options.first, !next.hasPrefix("-") || Int(next) != nil {
                    options.popFirst().map { $0[...] }
                } else {
                    nil
                }
            lines.append("\(name)=\(value ?? "true")")
        }
        return lines.sorted()
    }

    private var statusLines: [String] {
        let (started, seconds) = state.uptime
        let uptime =
            "\(seconds / 3600) hr \(Self.twoDigits(seconds / 60 % 60)) min \(Self.twoDigits(seconds % 60)) sec"
        let lines =
            [("Started", started), ("Up", uptime)] + status + [("Paths", Self.paths.joined(separator: " "))]
        return [""] + lines.map { "\($0): \($1)" }
    }

    private static func twoDigits(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
}
