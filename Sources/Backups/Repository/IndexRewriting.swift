/// Replaces index objects. The new ones are in the store before the old ones go: who reads the index meanwhile misses nothing.
struct IndexRewriting {
    let objects: SealedObjects

    /// Calls the body with every pack of every index object.
    ///
    /// - Returns: the objects that are damaged, which are left out.
    func forEachPack(of names: [Digest], _ body: (IndexedPack) throws -> Void) throws -> [Digest] {
        try names.filter { name in
            guard let text = try text(of: name) else { return true }
            try IndexObject.scan(text, name: name, body)
            return false
        }
    }

    private func text(of name: Digest) throws -> [UInt8]? {
        do { return try objects.load(.index, name) } catch let error as RepositoryError where error.kind == .damaged { return nil }
    }

    /// - Parameter change: returns what shall be said of a pack instead, or nil to say nothing of it any more.
    /// - Returns: the objects that are damaged, which stay as they are.
    func rewrite(_ names: [Digest], _ change: (IndexedPack) throws -> IndexedPack?) throws -> [Digest] {
        var unreadable: [Digest] = []
        var obsolete: [String] = []
        for name in names {
            var packs: [IndexedPack] = []
            var isChanged = false
            guard let text = try text(of: name) else {
                unreadable.append(name)
                continue
            }
            try IndexObject.scan(text, name: name) { pack in
                let changed = try change(pack)
                if changed != pack { isChanged = true }
                if let changed { packs.append(changed) }
            }
            guard isChanged else { continue }
            if !packs.isEmpty { _ = try IndexObject.text(packs, supersedes: [name]).withUnsafeBytes { try objects.save(.index, $0) } }
            obsolete.append(ObjectKind.index.name(name))
        }
        try objects.store.remove(obsolete)
        return unreadable
    }
}
