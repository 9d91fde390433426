import AddressAllocation
import CNIProtocol
import KernelInterface
import LeaseStore
import NetworkAddresses

/// IPAM out of ranges in the configuration, with leases in files of this machine.
struct HostLocalPlugin: Plugin {
    let name = "host-local"

    func add(_ request: AttachmentRequest) throws(CNIError) -> AttachmentResult {
        let configuration = try HostLocalConfiguration(request.configuration, arguments: request.arguments())
        guard request.attachment.containerID.utf8.count <= 200 else {
            throw CNIError(.invalidEnvironment, "CNI_CONTAINERID: longer than 200 bytes")
        }
        var result = AttachmentResult(routes: configuration.routes)
        if let path = configuration.resolvConf { result.nameService = try nameService(at: path) }
        let folder = try HostLocalConfiguration.dataDirectory(request.configuration)
        let boot = try HostLocalConfiguration.keepsLeasesOverReboot(request.configuration) ? nil : Boot.current
        let store = try leases { () throws(LeaseError) in
            try LeaseStore.open(folder, network: request.configuration.name, boot: boot)
        }
        let addresses = try leases { () throws(LeaseError) in
            try store.reserve(configuration.request, for: request.owner, coolDown: configuration.coolDown)
        }
        result.addresses = zip(addresses, configuration.request.sets).compactMap { address, set in
            guard let range = set.range(of: address), let prefix = IPPrefix(address, length: range.subnet.length) else {
                return nil
            }
            return AttachmentResult.Address(prefix, gateway: range.gateway)
        }
        return result
    }

    func delete(_ request: AttachmentRequest) throws(CNIError) {
        guard let store = try existingStore(request.configuration) else { return }
        let coolDown = CoolDown(request.configuration)
        _ = try leases { () throws(LeaseError) in try store.release(request.owner, coolDown: coolDown) }
    }

    func check(_ request: AttachmentRequest) throws(CNIError) {
        var held: [IPAddress] = []
        if let store = try existingStore(request.configuration) {
            held = try leases { () throws(LeaseError) in try store.addresses(of: request.owner) }
        }
        guard !held.isEmpty else {
            throw CNIError(
                .internal, "host-local: Failed to find address added by container \(request.attachment.containerID)")
        }
        guard let previous = try request.configuration.previousResult() else { return }
        let sets = try HostLocalConfiguration(request.configuration, arguments: CNIArguments()).request.sets
        for address in previous.addresses.map(\.prefix.address) where !held.contains(address) {
            // An address of another plugin's is none of ours.
            guard sets.contains(where: { $0.range(of: address) != nil }) else { continue }
            throw CNIError(.internal, "host-local: \(address) is not leased to container \(request.owner)")
        }
    }

    func collectGarbage(_ request: NetworkRequest) throws(CNIError) {
        let valid = try request.configuration.validAttachments()
        guard let store = try existingStore(request.configuration) else { return }
        let owners = Set(valid.map { LeaseOwner(containerID: $0.containerID, interface: $0.interface) })
        let coolDown = CoolDown(request.configuration)
        _ = try leases { () throws(LeaseError) in try store.releaseAll(except: owners, coolDown: coolDown) }
    }

    func status(_ request: NetworkRequest) throws(CNIError) {
        let configuration = try HostLocalConfiguration(request.configuration, arguments: CNIArguments())
        guard let store = try existingStore(request.configuration) else { return }
        let full = try leases { () throws(LeaseError) in try store.exhaustedSet(of: configuration.request.sets) }
        if let full { throw CNIError(.notAvailable, "no IP addresses available in range set: \(full)") }
    }

    private func existingStore(_ configuration: NetworkConfiguration) throws(CNIError) -> LeaseStore? {
        let folder = try HostLocalConfiguration.dataDirectory(configuration)
        // A key that is none is no reason to refuse a DEL; to take leases for valid is the safe side.
        let keepsLeases = (try? HostLocalConfiguration.keepsLeasesOverReboot(configuration)) ?? true
        let boot = keepsLeases ? nil : Boot.current
        return try leases { () throws(LeaseError) in
            try LeaseStore.openExisting(folder, network: configuration.name, boot: boot)
        }
    }

    private func nameService(at path: String) throws(CNIError) -> NameService {
        let parts = path.split(separator: "/").map(String.init)
        let folder = "/" + parts.dropLast().joined(separator: "/")
        do throws(KernelError) {
            let content = try StateDirectory.open(folder, create: false)
                .read(parts.last ?? "", limit: 1 << 16, followingLinks: true)
            if let content { return NameService(resolvConf: String(decoding: content, as: UTF8.self)) }
        } catch {
            throw CNIError(.inputOutput, "ipam.resolvConf: \(error)")
        }
        throw CNIError(.inputOutput, "ipam.resolvConf: open \(path): no such file or directory")
    }
}

extension AttachmentRequest {
    fileprivate var owner: LeaseOwner {
        LeaseOwner(containerID: attachment.containerID, interface: attachment.interface)
    }
}

extension CoolDown {
    /// The configured one. A key that is none is no reason to refuse a DEL.
    fileprivate init(_ configuration: NetworkConfiguration) {
        let seconds = try? configuration.reader.object("ipam").integer("coolDownSeconds")
        self = seconds.map { CoolDown(rest: .seconds(max($0, 0))) } ?? .standard
    }
}
