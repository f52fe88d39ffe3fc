/// What the source called unchanged is not what the parent has: the source's list of changes is not to be relied on.
struct MissedChange: Error {
    /// Where in the volume.
    let offset: UInt64
}

/// A note in the store that an attempt of a backup has found a missed change, put before anything else is done about it: whoever continues
/// the backup reads everything too, and would most likely not find the change by samples of its own.
struct MissedChangeNote {
    let store: any ObjectStore
    let name: String

    /// - Throws: a failure that no other attempt follows: it would rely on the list of changes.
    func put(_ missed: MissedChange) throws {
        let text = Array(String(missed.offset).utf8)
        do { try text.withUnsafeBytes { try store.put(name, [$0], sha256: nil) } } catch let error as StoreFailure {
            throw StoreFailure(
                error.kind == .temporary ? .permanent : error.kind,
                "the storage said that nothing had changed at byte \(missed.offset), where something had, and this cannot be noted: "
                    + error.description)
        }
    }

    /// What was noted; nil: nothing.
    func read() throws -> MissedChange? {
        var text = [UInt8](repeating: 0, count: 20)
        let count: Int
        do { count = try text.withUnsafeMutableBytes { try store.get(name, at: 0, into: $0) } } catch let error as StoreFailure
            where error.kind == .notFound
        { return nil }
        // Whatever the note says, it is there.
        return MissedChange(offset: UInt64(String(decoding: text[..<count], as: UTF8.self)) ?? 0)
    }

    func remove() throws(StoreFailure) { try store.remove([name]) }
}
