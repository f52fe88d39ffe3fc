import Primitives

/// What a verification found.
public struct ChunkedVerification: Sendable {
    public var summary: ChunkedSummary
    /// What is damaged; the first thousand.
    public var damages: [ChunkedDamage]
    /// The same, each with the object and the member.
    public var problems: [String] { damages.map(\.reason) }
    public var isGood: Bool { damages.isEmpty }
}

/// Something of a chain that is not what was written.
public struct ChunkedDamage: Sendable, Equatable {
    /// Names the object and the member.
    public var reason: String
    /// The backup that the object belongs to, and its number; nil where it is no object of data.
    public var object: (backupID: String, number: Int)?
    /// The bytes of the volume that the object holds.
    public var range: Range<UInt64>?

    public static func == (a: ChunkedDamage, b: ChunkedDamage) -> Bool {
        a.reason == b.reason && a.object?.backupID == b.object?.backupID && a.object?.number == b.object?.number && a.range == b.range
    }
}

extension ChunkedBackup {
    /// What the metadata of this backup says, checked.
    public func metadata(in store: any ObjectStore) throws(ChunkedFailure) -> ChunkedMetadata {
        do {
            try check()
            return try ChunkedMetadata.read(self, from: store)
        } catch {
            throw ChunkedFailure.of(error)
        }
    }

    /// Restores the last backup of a chain. Every block is written once, and only after its SHA-256 was found right; where the file of
    /// hashes is lost, after the MD5 of its object was. The MD5 of an object of which only a part is wanted is checked, too. Blocks of zeroes become holes. Blocks the calling thread; the work is done on
    /// threads of its own.
    ///
    /// - Parameters:
    ///   - chain: a full backup and the increments on it, each the parent of the next.
    ///   - target: at least as large as the backup; what lies beyond is left as it is.
    /// - Throws: a failure that says how many bytes had been written.
    public static func restore(
        _ chain: [ChunkedBackup], from store: any ObjectStore, to target: any BlockTarget, control: TransferControl = TransferControl()
    ) throws(ChunkedFailure) -> ChunkedSummary {
        var reader: ChunkedReader?
        do {
            try check(chain)
            let made = try ChunkedReader(chain, from: store, to: target, control)
            reader = made
            try made.run()
            try target.flush()
            return made.schedule.summary
        } catch {
            var failure = ChunkedFailure.of(error)
            failure.written = reader?.schedule.summary.written ?? 0
            failure.isTargetChanged = reader?.schedule.isTargetChanged ?? false
            throw failure
        }
    }

    /// Reads everything that the last backup of a chain depends on and checks it as a restore does.
    ///
    /// - Parameter includesReplaced: also objects of which increments have replaced everything: only older backups need them.
    public static func verify(
        _ chain: [ChunkedBackup], in store: any ObjectStore, includesReplaced: Bool = true, control: TransferControl = TransferControl()
    ) throws(ChunkedFailure) -> ChunkedVerification {
        do {
            try check(chain)
            let reader = try ChunkedReader(chain, from: store, to: nil, includesReplaced: includesReplaced, control)
            try reader.run()
            let damages = reader.schedule.damages.map { reason, unit in
                ChunkedDamage(reason: reason, object: (chain[unit.layer].id, unit.object.number), range: unit.object.range)
            }
            return ChunkedVerification(summary: reader.schedule.summary, damages: damages)
        } catch {
            let failure = ChunkedFailure.of(error)
            guard failure.kind == .damaged else { throw failure }
            return ChunkedVerification(summary: ChunkedSummary(), damages: [ChunkedDamage(reason: failure.reason)])
        }
    }

    /// Whether the last backup of a chain needs one of the damaged objects. One whose metadata cannot be read is damaged itself.
    public static func uses(_ damages: [ChunkedDamage], _ chain: [ChunkedBackup], in store: any ObjectStore) throws(ChunkedFailure) -> Bool
    {
        do {
            try check(chain)
            let layers = try chain.map { try ChunkedReader.metadata($0, store).objects }
            let plan = try RestorePlan(layers, includesReplaced: false, last: chain[chain.count - 1].metadataName)
            return plan.units.contains { unit in
                damages.contains { $0.object?.backupID == chain[unit.layer].id && $0.object?.number == unit.object.number }
            }
        } catch {
            let failure = ChunkedFailure.of(error)
            // It is not known whether it is lost: it keeps its mark.
            if failure.kind == .store(.notFound) { return false }
            guard failure.kind == .damaged else { throw failure }
            return true
        }
    }

    static func check(_ chain: [ChunkedBackup]) throws(ChunkedFailure) {
        guard let first = chain.first else { throw .invalid("a chain has at least one backup") }
        guard first.parentID == nil else {
            throw .invalid("the first backup of a chain is not a full one: parent_id of \(first.id) is set")
        }
        for (parent, backup) in zip(chain, chain.dropFirst()) {
            guard backup.parentID == parent.id else { throw .invalid("parent_id of \(backup.id) is not \(parent.id)") }
            guard backup.volumeID == parent.volumeID else { throw .invalid("\(backup.id) is of another volume than its parent") }
        }
        guard Set(chain.map(\.id)).count == chain.count else { throw .invalid("a backup is given twice in its chain") }
        for backup in chain { try backup.check() }
    }
}
