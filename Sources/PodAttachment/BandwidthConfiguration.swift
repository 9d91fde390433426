public import CNIProtocol
public import RouteNetlink

/// What limits a pod's traffic: the keys of the `bandwidth` plugin, or `runtimeConfig.bandwidth`.
public struct BandwidthConfiguration: Hashable, Sendable {
    /// What reaches the pod.
    public var ingress: TokenBucket?
    /// What the pod sends.
    public var egress: TokenBucket?

    /// Reads the limits of the configuration itself, which count before those of the runtime.
    public init(_ configuration: NetworkConfiguration) throws(CNIError) {
        let reader = configuration.reader
        for key in ["shapedSubnets", "unshapedSubnets"] where try !reader.strings(key).isEmpty {
            throw CNIError(.unsupportedField, "\(key): limits for some destinations only are not supported")
        }
        let runtime = try reader.object("runtimeConfig").object("bandwidth")
        let own = try Self.isSet(reader)
        ingress = try Self.bucket(own ? reader : runtime, "ingress")
        egress = try Self.bucket(own ? reader : runtime, "egress")
    }

    public var isEmpty: Bool { ingress == nil && egress == nil }

    private static func isSet(_ reader: ConfigurationReader) throws(CNIError) -> Bool {
        for key in ["ingressRate", "ingressBurst", "egressRate", "egressBurst"] {
            if try reader.integer(key) ?? 0 != 0 { return true }
        }
        return false
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
        // What 25 ms let through may wait, and what the bucket holds.
        let waiting = Double(rate / 8) * 0.025 + Double(bytes)
        return TokenBucket(rate: UInt64(rate / 8), burst: bytes, limit: UInt32(min(waiting, Double(UInt32.max))))
    }
}
