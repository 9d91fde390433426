import KubernetesObjects
import NetworkAddresses
import Testing

struct LabelSelectorTests {
    typealias Requirement = LabelSelector.Requirement

    @Test(arguments: [
        (LabelSelector.everything, [true, true, true]),
        (LabelSelector(matchLabels: ["app": "web"]), [true, false, false]),
        (LabelSelector([Requirement("app", .in, ["web", "db"])]), [true, true, false]),
        (LabelSelector([Requirement("app", .notIn, ["web"])]), [false, true, true]),
        (LabelSelector([Requirement("app", .exists)]), [true, true, false]),
        (LabelSelector([Requirement("app", .doesNotExist)]), [false, false, true]),
        (
            LabelSelector(matchLabels: ["app": "web"], matchExpressions: [Requirement("app", .notIn, ["web"])]),
            [false, false, false]
        ),
        (LabelSelector(matchLabels: ["app": "db", "tier": "back"]), [false, true, false]),
    ])
    func `labels are matched`(selector: LabelSelector, matches: [Bool]) {
        let labels = [["app": "web"], ["app": "db", "tier": "back"], [:]]
        #expect(labels.map(selector.matches) == matches)
    }

    @Test func `selectors that ask for the same are equal`() {
        let one = LabelSelector(
            matchLabels: ["b": "2", "a": "1"], matchExpressions: [Requirement("c", .in, ["y", "x", "x"])])
        let other = LabelSelector([
            Requirement("c", .in, ["x", "y"]), Requirement("a", .in, ["1"]), Requirement("b", .in, ["2"]),
            Requirement("a", .in, ["1"]),
        ])
        #expect(one == other)
        #expect(one.description == "a=1,b=2,c in (x,y)")
    }

    @Test(arguments: [
        (LabelSelector.everything, "everything"),
        (
            LabelSelector([
                Requirement("a", .notIn, ["y", "x"]), Requirement("b", .exists), Requirement("c", .doesNotExist),
            ]), "a notin (x,y),b,!c"
        ),
        (LabelSelector([Requirement("a", .in, ["x,y"])]), "a=\"x,y\""),
        (LabelSelector([Requirement("a=1,b", .in, ["2"])]), "\"a=1,b\"=2"),
        (LabelSelector(matchLabels: ["app.kubernetes.io/name": "web"]), "app.kubernetes.io/name=web"),
        (LabelSelector(matchLabels: ["a": ""]), "a="),
    ])
    func `the text says what is asked for`(selector: LabelSelector, text: String) {
        #expect(selector.description == text)
    }
}

struct ClusterSnapshotTests {
    @Test func `objects are held by kind and name, and removed by reference`() {
        let metadata = ObjectMetadata(name: "a", namespace: "shop")
        let outside = ObjectMetadata(name: "a", namespace: "")
        let template = PodTemplate(labels: [:], spec: PodSpec())
        let objects: [KubernetesObject] = [
            .namespace(Namespace(name: "a")), .pod(Pod(metadata: metadata)), .service(Service(metadata: metadata)),
            .endpointSlice(EndpointSlice(metadata: metadata, family: .ipv4)), .node(Node(metadata: outside)),
            .networkPolicy(NetworkPolicy(metadata: metadata)),
            .serviceCIDR(ServiceCIDR(metadata: outside, cidrs: [])),
            .workload(Workload(kind: .deployment, metadata: metadata, selector: .everything, template: template)),
            .workload(Workload(kind: .statefulSet, metadata: metadata, selector: .everything, template: template)),
        ]
        var snapshot = ClusterSnapshot(objects)
        for object in objects { #expect(snapshot[object.reference] == object) }
        #expect(!snapshot.isSynced)

        for object in objects { snapshot.apply(.removed(object.reference)) }
        #expect(snapshot == ClusterSnapshot())
        snapshot.apply(.synced)
        #expect(snapshot.isSynced)
    }

    @Test(arguments: ObjectKind.known)
    func `kinds are known by their names`(kind: ObjectKind) {
        #expect(ObjectKind(kind.description) == kind)
        #expect(!kind.apiVersion.isEmpty)
    }

    @Test func `references are printed as people write them`() {
        #expect(
            ObjectReference(kind: .networkPolicy, namespace: "shop", name: "allow-web").description
                == "NetworkPolicy shop/allow-web")
        #expect(ObjectReference(kind: .node, namespace: nil, name: "a").description == "Node a")
        #expect(ObjectKind("Ingress") == .other("Ingress"))
    }
}
