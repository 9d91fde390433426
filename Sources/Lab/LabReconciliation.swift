import FoundationEssentials
import KernelInterface
public import KubernetesObjects
import NetworkAddresses

/// How a lab is brought to what was applied to it.
extension LabSession {
    /// Takes objects in and brings the lab to what all objects together call for.
    ///
    /// What cannot be used is reported and harms nothing else.
    public func apply(_ input: ManifestInput) throws {
        for note in input.notes { report(.note(note)) }
        var changed = 0
        for given in input.objects {
            if let objection = objection(to: given.object) {
                report(
                    .note(
                        Note(
                            source: given.source, object: given.object.reference, message: objection, severity: .warning
                        )))
            } else if try store.put(given) {
                changed += 1
            }
        }
        if !input.objects.isEmpty {
            report(.message("\(input.objects.count) objects, \(changed) of them new or changed"))
        }
        let sources = Dictionary(
            input.objects.map { ($0.object.reference, $0.source) }, uniquingKeysWith: { first, _ in first })
        try reconcile(sources: sources)
    }

    /// Forgets objects, a namespace with all that is in it, and brings the lab to what is left.
    ///
    /// A pod of a workload is made anew, as a cluster does it. Objects that are not there are reported.
    public func delete(_ references: [ObjectReference]) throws {
        let kept = try store.load().map(\.object.reference)
        var replaced: Set<NamespacedName> = []
        for reference in references {
            var gone = try store.remove(reference)
            if reference.kind == .namespace {
                for inside in kept where inside.namespace == reference.name {
                    gone = try store.remove(inside) || gone
                }
            } else if reference.kind == .pod, !gone {
                gone = try folder.podRecords().contains { $0.key == reference.key && $0.phase == .running }
                replaced.insert(reference.key)
            }
            if !gone { report(.note(Note(object: reference, message: "is not there"))) }
        }
        try reconcile(replacing: replaced)
    }

    /// Why the lab has no use for an object, nil where it has.
    private func objection(to object: KubernetesObject) -> String? {
        switch object.kind {
        case .node: "is not used: a lab has its own nodes"
        case .serviceCIDR: "is not used: a lab has its own service networks"
        default: nil
        }
    }

    /// Brings pods, manifests and agents to what the kept objects call for.
    ///
    /// - Parameter sources: The files in which objects stand, as far as they were just given.
    /// - Parameter replacing: Pods to be made anew although they are as they should be.
    private func reconcile(
        sources: [ObjectReference: String] = [:], replacing: Set<NamespacedName> = []
    ) throws {
        guard let record = try folder.record() else { throw LabState.missing(name) }
        let kept = try store.load().map { given in
            var given = given
            given.source = sources[given.object.reference] ?? ""
            return given
        }
        let plan = try podPlan(for: kept, in: record, replacing: replacing)
        // First, because two pods cannot have one port of one node; all others are removed when the agents have
        // taken them out of the services.
        try remove(plan.outgoing.filter(\.isHostNetwork), phase: "Host pods removed")
        let sandboxes = make(plan, in: record)
        try interruption.check()
        let manifests = try manifests(for: kept, pods: plan.desired, sandboxes: sandboxes, in: record)
        try synchronize(record, revision: try manifests.write(), phase: "Agents in sync")
        try remove(plan.outgoing.filter { !$0.isHostNetwork }, phase: "Pods removed")
    }

    /// Passes notes on with the files their objects stand in.
    private func report(_ notes: [Note], on kept: [ManifestInput.Given]) {
        for var note in notes {
            note.source = kept.first { $0.object.reference == note.object }?.source ?? ""
            report(.note(note))
        }
    }

    // MARK: - Pods

    /// Which pods there are to be, and what that takes.
    private struct PodPlan {
        var desired: [DesiredPod]
        var staying: [PodRecord] = []
        /// Those whose stand-in has to listen on other ports, or has ended.
        var reserved: [PodRecord] = []
        var incoming: [PodRecord] = []
        var outgoing: [PodRecord] = []
    }

    private func podPlan(
        for kept: [ManifestInput.Given], in record: LabRecord, replacing: Set<NamespacedName>
    ) throws -> PodPlan {
        var workloads: [Workload] = []
        var single: [(pod: Pod, tree: FieldValue)] = []
        for given in kept {
            switch given.object {
            case .workload(let workload): workloads.append(workload)
            case .pod(let pod): single.append((pod, given.tree.inNamespace(of: given.object.reference)))
            default: break
            }
        }
        var records = try folder.podRecords()
        let running = Dictionary(
            records.filter { $0.phase == .running && !replacing.contains($0.key) }.map { ($0.key, $0) },
            uniquingKeysWith: { first, _ in first })
        let expansion = WorkloadExpansion(
            workloads: workloads, single: single, nodes: nodes(of: record), placed: running.mapValues(\.node))
        report(expansion.notes, on: kept)
        var plan = PodPlan(desired: expansion.pods)
        for pod in expansion.pods {
            let wanted = PodRecord(pod, in: name)
            if var present = running[pod.key], present.isIn(sameSandboxAs: wanted), isThere(present) {
                records.removeAll { $0.id == present.id }
                if try PodSandbox.isServed(present, in: folder), present.listeners == wanted.listeners {
                    plan.staying.append(present)
                } else {
                    present.listeners = wanted.listeners
                    plan.reserved.append(present)
                }
            } else {
                plan.incoming.append(wanted)
            }
        }
        plan.outgoing = records
        // Written down before anything else happens, so that a lab never shows two pods of one name.
        for index in plan.outgoing.indices where plan.outgoing[index].phase == .running {
            plan.outgoing[index].phase = .removing
            try folder.write(plan.outgoing[index])
        }
        return plan
    }

    private func nodes(of record: LabRecord) -> [Node] {
        record.nodes.flatMap { node in
            KubernetesObject.decode(node.manifest, source: node.name).objects.compactMap { object in
                if case .node(let node) = object { node } else { nil }
            }
        }
    }

    private func isThere(_ record: PodRecord) -> Bool {
        guard let namespace = try? NetworkNamespace.open(named: record.networkNamespace) else { return false }
        _ = namespace
        return true
    }

    /// Makes what is to be made, and returns the sandboxes there are then, by pod.
    private func make(_ plan: PodPlan, in record: LabRecord) -> [NamespacedName: PodRecord] {
        let made = Collected<PodRecord>(plan.staying)
        let (folder, binaries, report, interruption) = (folder, binaries, report, interruption)
        workers.run("Stand-ins restarted", plan.reserved) { pod in
            do {
                made.append(try PodSandbox(folder: folder, binaries: binaries, record: pod).restartServer())
            } catch {
                report(.note(Note(object: ObjectReference(.pod, pod.key), message: "\(error)")))
            }
        }
        let hostAddresses = Dictionary(uniqueKeysWithValues: record.nodes.map { ($0.name, $0.addresses) })
        workers.run("Pods attached", plan.incoming) { pod in
            var pod = pod
            if pod.isHostNetwork { pod.addresses = hostAddresses[pod.node] ?? [] }
            do {
                made.append(try PodSandbox(folder: folder, binaries: binaries, record: pod).make())
            } catch {
                // Ctrl-C reaches the plugin as well, which then fails and is no news.
                if interruption.isRequested { return }
                report(.note(Note(object: ObjectReference(.pod, pod.key), message: "cannot be run: \(error)")))
            }
        }
        return Dictionary(made.values.map { ($0.key, $0) }, uniquingKeysWith: { first, _ in first })
    }

    private func remove(_ records: [PodRecord], phase: String) throws {
        let (folder, binaries, report) = (folder, binaries, report)
        workers.run(phase, records) { pod in
            do {
                try PodSandbox(folder: folder, binaries: binaries, record: pod).remove()
            } catch {
                report(.note(Note(object: ObjectReference(.pod, pod.key), message: "cannot be removed: \(error)")))
            }
        }
        try interruption.check()
    }

    // MARK: - Manifests

    private func manifests(
        for kept: [ManifestInput.Given], pods: [DesiredPod], sandboxes: [NamespacedName: PodRecord],
        in record: LabRecord
    ) throws -> LabManifests {
        var manifests = LabManifests(folder: folder)
        // First, so that a namespace `default` that was applied, with labels of its own, takes the place of ours.
        addOwnObjects(of: record, to: &manifests)
        var namespaces: Set<String> = []
        for given in kept {
            let reference = given.object.reference
            switch given.object {
            // Of workloads and single pods only their pods are shown, as they run.
            case .workload, .pod, .service, .node, .serviceCIDR: break
            case .namespace, .endpointSlice, .networkPolicy:
                manifests.add(given.tree.inNamespace(of: reference), as: reference)
            }
            if let namespace = reference.namespace { namespaces.insert(namespace) }
        }
        let addressing = ServiceAddressing(
            kept.compactMap { given in
                guard case .service(let service) = given.object else { return nil }
                return (service, given.tree.inNamespace(of: given.object.reference))
            }, previous: try manifests.services(), serviceCIDRs: record.serviceCIDRs.compactMap { IPPrefix($0) })
        report(addressing.notes, on: kept)
        for service in addressing.services { manifests.add(service.tree, as: ObjectReference(.service, service.key)) }
        for pod in pods {
            guard let node = record.nodes.first(where: { $0.name == pod.node }) else { continue }
            manifests.add(pod.tree.reported(sandboxes[pod.key], on: node), as: ObjectReference(.pod, pod.key))
        }
        for namespace in namespaces {
            let reference = ObjectReference(kind: .namespace, namespace: nil, name: namespace)
            if manifests.files[reference.manifestName] == nil { manifests.add(.namespace(namespace), as: reference) }
        }
        return manifests
    }
}

extension PodRecord {
    var key: NamespacedName { NamespacedName(namespace: namespace, name: name) }

    /// The record of a pod that is still to be made.
    init(_ desired: DesiredPod, in lab: LabName) {
        let id = PodID.random()
        let isHostNetwork = desired.pod.spec.isHostNetwork
        let listeners = desired.pod.spec.containers.flatMap(\.ports)
            // There is nothing to listen for SCTP with.
            .filter { $0.protocol != .sctp }
            .map { Listener(transport: "\($0.protocol)", port: $0.number.rawValue) }
        self.init(
            id: id.description, namespace: desired.key.namespace, name: desired.key.name,
            uid: desired.pod.metadata.uid.isEmpty ? UUID().uuidString.lowercased() : desired.pod.metadata.uid,
            node: desired.node,
            networkNamespace: isHostNetwork ? lab.namespace(ofNode: desired.node) : lab.namespace(ofPod: id),
            isHostNetwork: isHostNetwork, listeners: Set(listeners).sorted(), phase: .attaching)
    }

    /// Whether the pod could become the other without a new sandbox.
    func isIn(sameSandboxAs other: PodRecord) -> Bool { node == other.node && isHostNetwork == other.isHostNetwork }
}
