/// Replaces index objects. The new ones are in the store before the old ones go: who reads the index meanwhile misses nothing.
struct IndexRewriting {
    let objects: SealedObjects

    /// Calls the body with every pack of every index object.
    func forEachPack(of names: [Digest], _ body: (IndexedPack) throws -> Void) throws {
        for name in names { try IndexObject.scan(objects.load(.index, name), name: name, body) }
    }

    /// - Parameter change: returns what shall be said of a pack instead, or nil to say nothing of it any more.
    /// - Returns: whether anything changed.
    func rewrite(_ names: [Digest], _ change: (IndexedPack) throws -> IndexedPack?) throws -> Bool {
        var obsolete: [String] = []
        for name in names {
            var packs: [IndexedPack] = []
            var isChanged = false
            try IndexObject.scan(objects.load(.index, name), name: name) { pack in
                let changed = try change(pack)
                if changed != pack { isChanged = true }
                if let changed { packs.append(changed) }
            }
            guard isChanged else { continue }
            if !packs.isEmpty { _ = try IndexObject.text(packs, supersedes: [name]).withUnsafeBytes { try objects.save(.index, $0) } }
            obsolete.append(ObjectKind.index.name(name))
        }
        try objects.store.remove(obsolete)
        return !obsolete.isEmpty
    }
}
