import KubernetesObjects
import NetworkAddresses

extension FieldValue {
    /// An object of that kind named `shop/x`, or `x` for cluster-scoped kinds.
    static func object(_ kind: ObjectKind, _ fields: [(String, FieldValue)]) -> FieldValue {
        var tree: FieldValue = [
            "apiVersion": .string(kind.apiVersion), "kind": .string(kind.description),
            "metadata": kind.isClusterScoped ? ["name": "x"] : ["namespace": "shop", "name": "x"],
        ]
        for (key, value) in fields { tree[key] = value }
        return tree
    }
}

/// What becomes of one tree: the object, and the notes without what all of them begin with.
func decode(_ tree: FieldValue) -> (object: KubernetesObject?, notes: [String]) {
    let decoded = KubernetesObject.decode(tree, source: "x.yaml")
    return (
        decoded.objects.first,
        decoded.notes.map { note in (note.field.isEmpty ? "" : note.field + ": ") + note.message }
    )
}
