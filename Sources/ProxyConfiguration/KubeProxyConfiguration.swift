public import KubernetesObjects
public import NetworkAddresses
public import ServiceRules

/// What a node's `KubeProxyConfiguration` (`kubeproxy.config.k8s.io/v1alpha1`) asks for, as far as there is a use for it.
///
/// Defaults are in, so nothing here can be missing.
public struct KubeProxyConfiguration: Hashable, Sendable {
    /// How the node was programmed until now.
    ///
    /// The rules are ours whichever it is; what differs from mode to mode in meaning, such as at which addresses node
    /// ports answer, is as in the mode asked for.
    public enum Mode: String, Hashable, Sendable, CaseIterable {
        case iptables, ipvs, nftables
    }

    /// What connection tracking is set to; nil and zero leave the kernel's value as it is.
    public struct Conntrack: Hashable, Sendable {
        public var maxPerCore: Int
        public var min: Int
        public var tcpEstablishedTimeout: Duration
        public var tcpCloseWaitTimeout: Duration
        public var tcpBeLiberal: Bool
        public var udpTimeout: Duration
        public var udpStreamTimeout: Duration

        public init(
            maxPerCore: Int, min: Int, tcpEstablishedTimeout: Duration, tcpCloseWaitTimeout: Duration,
            tcpBeLiberal: Bool, udpTimeout: Duration, udpStreamTimeout: Duration
        ) {
            self.maxPerCore = maxPerCore
            self.min = min
            self.tcpEstablishedTimeout = tcpEstablishedTimeout
            self.tcpCloseWaitTimeout = tcpCloseWaitTimeout
            self.tcpBeLiberal = tcpBeLiberal
            self.udpTimeout = udpTimeout
            self.udpStreamTimeout = udpStreamTimeout
        }
    }

    /// The file with the API server's address; empty for none.
    public var kubeconfig: String
    /// The node's name, where it is not the host's.
    public var hostnameOverride: String
    /// Where to answer questions about health; nil for nowhere.
    public var healthzAddress: SocketAddress?
    /// Where to answer those of monitoring and people; nil for nowhere.
    public var metricsAddress: SocketAddress?
    /// Whether an address that cannot be listened at ends the process.
    public var bindAddressHardFail: Bool
    public var mode: Mode
    /// What the service proxy is told.
    public var services: ServiceSettings
    /// How old a change may get before the node no longer counts as healthy: twice that.
    public var syncPeriod: Duration
    /// How willingly the kernel ends the process when memory is short, from -1000 (never) to 1000.
    public var oomScoreAdjustment: Int
    public var conntrack: Conntrack
    /// How much to log: from 4 on details, from 6 on everything.
    public var verbosity: Int
    /// The whole document with all defaults, in v1alpha1: what `/configz` shows and `--write-config-to` writes.
    public var document: FieldValue

    /// Takes the address of `/healthz` away, which only a command line can ask for.
    public mutating func servesNoHealth() {
        healthzAddress = nil
        document["healthzBindAddress"] = ""
    }

    /// Takes the address of `/metrics` away, which only a command line can ask for.
    public mutating func servesNoMetrics() {
        metricsAddress = nil
        document["metricsBindAddress"] = ""
    }
}
