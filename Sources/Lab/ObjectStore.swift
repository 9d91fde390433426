internal import NetworkAddresses
import KernelInterface
import KubernetesObjects
import ManifestFolder

/// What was applied to a lab and not deleted since: the folder `objects`, one file per object.
///
/// It is what the lab is to be, whatever became of it: a command that was killed is finished by the next one.
struct ObjectStore: Sendable {
    let folder: LabFolder

    private static let directory = "objects"
    private var path: String { "\(folder.path)/\(Self.directory)" }

    func load() throws -> [ManifestInput.Given] {
        guard let directory = try folder.open(Self.directory) else { return [] }
        var input = ManifestInput()
        for name in try directory.entries().sorted() where ManifestSet.isManifest(name) {
            guard let bytes = try directory.read(name, limit: ManifestText.sizeLimit) else { continue }
            input.add(bytes, source: "\(path)/\(name)")
        }
        return input.objects
    }

    /// Keeps an object; false where it is kept already just like this.
    func put(_ given: ManifestInput.Given) throws -> Bool {
        let directory = try StateDirectory.open(path, create: true)
        let name = given.object.reference.manifestName
        let bytes = Array(ManifestText.yaml([given.tree]).utf8)
        if try directory.read(name, limit: ManifestText.sizeLimit) == bytes { return false }
        try directory.replace(name, bytes)
        return true
    }

    /// Forgets an object; false where it was not kept.
    func remove(_ reference: ObjectReference) throws -> Bool {
        try folder.open(Self.directory)?.remove(reference.manifestName) ?? false
    }
}

extension ObjectReference {
    /// The name of the file an object is alone in: `Service_shop_web.yaml`.
    ///
    /// An underscore is in no object's name. A name that is too long for a file's is cut, and told apart by a hash.
    var manifestName: String {
        let whole = [kind.description, namespace ?? "", name].filter { !$0.isEmpty }.joined(separator: "_")
        guard whole.utf8.count > 240 else { return "\(whole).yaml" }
        return "\(whole.prefix(220))_\(StableHash(whole).letters(12)).yaml"
    }
}
