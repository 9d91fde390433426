import Testing

@testable import Lab

@Suite struct LabNameTests {
    @Test(arguments: ["lab", "a", "shop-2", "0", "abcdefghijklmnopqrst"])
    func `letters, digits and inner dashes make a name`(text: String) {
        #expect(LabName(text)?.description == text)
    }

    @Test(arguments: ["", "-", "a-", "-a", "Lab", "a b", "a/b", "..", "a.b", "ü", "abcdefghijklmnopqrstu"])
    func `what could not be part of a path or a namespace's name is no name`(text: String) {
        #expect(LabName(text) == nil)
    }

    @Test func `a lab owns the namespaces it gives names to`() throws {
        let lab = try #require(LabName("shop"))
        let pod = try #require(PodID("0a1b2c3d"))
        #expect(lab.underlayNamespace == "fairlead-shop-underlay")
        #expect(lab.namespace(ofNode: "node-3") == "fairlead-shop-node-3")
        #expect(lab.namespace(ofPod: pod) == "fairlead-shop-pod-0a1b2c3d")
        for name in [lab.underlayNamespace, lab.namespace(ofNode: "node-3"), lab.namespace(ofPod: pod)] {
            #expect(lab.owns(namespace: name))
        }
    }

    /// Two labs whose names begin alike, and names that are made to confuse them.
    @Test(arguments: ["shop-2", "shop-node-1", "shop-pod-0a1b2c3d", "shop-underlay", "sho"])
    func `a lab owns nothing of another lab`(other: String) throws {
        let lab = try #require(LabName("shop"))
        let other = try #require(LabName(other))
        let names = [
            other.underlayNamespace, other.namespace(ofNode: "node-1"), other.namespace(ofPod: .random()),
        ]
        for name in names {
            #expect(!lab.owns(namespace: name))
            #expect(other.owns(namespace: name))
        }
    }

    @Test(arguments: [
        "shop", "fairlead-shop", "fairlead-shop-", "fairlead-shop-node-", "fairlead-shop-node-1a",
        "fairlead-shop-pod-0a1b2c3", "fairlead-shop-pod-0A1B2C3D", "fairlead-shop-underlay2", "cni-1234",
    ])
    func `other namespaces are not the lab's`(namespace: String) {
        #expect(LabName("shop")?.owns(namespace: namespace) == false)
    }

    @Test func `a random pod ID is one that is read back`() {
        for _ in 0..<100 {
            let id = PodID.random()
            #expect(PodID(id.description) == id)
        }
    }
}
