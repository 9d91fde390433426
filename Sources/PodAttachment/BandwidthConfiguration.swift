public import CNIProtocol
public import RouteNetlink

/// What limits a pod's traffic: the keys of the `bandwidth` plugin, or `runtimeConfig.bandwidth`.
public struct BandwidthConfiguration: Hashable, Sendable {
    /// What reaches the pod.
    public var ingress: TokenBucket?
    /// What the pod sends.
    public var egress: TokenBucket?

    /// Reads the limits of the configuration itself, which count before those of the runtime.
    ///
    /// - Parameter readingAnnotations: whether a pod's annotations count where nothing else is said.
    public init(_ configuration: NetworkConfiguration, readingAnnotations: Bool = false) throws(CNIError) {
        let reader = configuration.reader
        for key in ["shapedSubnets", "unshapedSubnets"] where try !reader.strings(key).isEmpty {
            throw CNIError(
                .unsupportedField,
                "\(key): limits for some destinations only are not supported; remove the key to limit all traffic")
        }
        let runtime = try reader.object("runtimeConfig").object("bandwidth")
        let own = try Self.isSet(reader)
        ingress = try Self.bucket(own ? reader : runtime, "ingress")
        egress = try Self.bucket(own ? reader : runtime, "egress")
        if readingAnnotations { try readAnnotations(reader) }
    }

    public var isEmpty: Bool { ingress == nil && egress == nil }

    private static func isSet(_ reader: ConfigurationReader) throws(CNIError) -> Bool {
        for key in ["ingressRate", "ingressBurst", "egressRate", "egressBurst"] {
            if try reader.integer(key) ?? 0 != 0 { return true }
        }
        return false
    }

    /// What a pod's annotations say where nothing else does: the runtime hands them over under the capability
    /// `io.kubernetes.cri.pod-annotations`, and turns them into limits itself under `bandwidth`.
    private mutating func readAnnotations(_ reader: ConfigurationReader) throws(CNIError) {
        guard isEmpty, try reader.object("runtimeConfig").optionalObject("bandwidth") == nil else { return }
        let annotations = try reader.object("runtimeConfig").object("io.kubernetes.cri.pod-annotations")
        ingress = try Self.annotatedBucket(annotations, "kubernetes.io/ingress-bandwidth")
        egress = try Self.annotatedBucket(annotations, "kubernetes.io/egress-bandwidth")
    }

    /// The bucket that runtimes make of an annotation: its rate, and 256 Mbit at once after a pause.
    private static func annotatedBucket(
        _ annotations: ConfigurationReader, _ key: String
    ) throws(CNIError) -> TokenBucket? {
        guard let text = try annotations.string(key), !text.isEmpty else { return nil }
        // The bounds of Kubernetes' own check, in its words.
        guard let rate = bitsPerSecond(text) else {
            throw annotations.fault(key, "\"\(text)\" is no quantity such as 10M")
        }
        guard rate >= 1000 else { throw annotations.fault(key, "resource is unreasonably small (< 1kbit)") }
        guard rate <= 1_000_000_000_000_000 else {
            throw annotations.fault(key, "resource is unreasonably large (> 1Pbit)")
        }
        return bucket(rate: Int(rate), burst: 1 << 25)
    }

    /// A quantity of Kubernetes as a whole number, rounded up; nil for a text that is none.
    static func bitsPerSecond(_ text: String) -> Double? {
        let suffixes: [(String, Double)] = [
            ("Ki", 0x1p10), ("Mi", 0x1p20), ("Gi", 0x1p30), ("Ti", 0x1p40), ("Pi", 0x1p50), ("Ei", 0x1p60),
            ("m", 1e-3), ("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12), ("P", 1e15), ("E", 1e18),
        ]
        let suffix = suffixes.first { text.hasSuffix($0.0) }
        let number = text.dropLast(suffix?.0.count ?? 0)
        let isDecimal = number.utf8.allSatisfy { byte in
            (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || ".+-".utf8.contains(byte)
                || suffix == nil && "eE".utf8.contains(byte)
        }
        guard isDecimal, let value = Double(number), value.isFinite, value >= 0 else { return nil }
        return (value * (suffix?.1 ?? 1)).rounded(.up)
    }

    /// Bits a second and bits, as the specification's conventions have them.
    private static func bucket(_ reader: ConfigurationReader, _ direction: String) throws(CNIError) -> TokenBucket? {
        let (rateKey, burstKey) = ("\(direction)Rate", "\(direction)Burst")
        let rate = try reader.integer(rateKey) ?? 0
        let burst = try reader.integer(burstKey) ?? 0
        if rate == 0, burst == 0 { return nil }
        // The words of the reference plugin.
        guard rate != 0 else { throw reader.fault(rateKey, "if burst is set, rate must also be set") }
        guard burst != 0 else { throw reader.fault(burstKey, "if rate is set, burst must also be set") }
        guard rate >= 8 else { throw reader.fault(rateKey, "\(rate) is less than a byte a second") }
        guard burst >= 8 else { throw reader.fault(burstKey, "\(burst) is less than a byte") }
        guard let bytes = UInt32(exactly: burst / 8), bytes != .max else {
            throw reader.fault(burstKey, "burst cannot be more than 4GB")
        }
        return bucket(rate: rate, burst: bytes)
    }

    /// - Parameters:
    ///   - rate: bits a second.
    ///   - burst: bytes.
    private static func bucket(rate: Int, burst: UInt32) -> TokenBucket {
        // What 25 ms let through may wait, and what the bucket holds.
        let waiting = Double(rate / 8) * 0.025 + Double(burst)
        return TokenBucket(rate: UInt64(rate / 8), burst: burst, limit: UInt32(min(waiting, Double(UInt32.max))))
    }
}
