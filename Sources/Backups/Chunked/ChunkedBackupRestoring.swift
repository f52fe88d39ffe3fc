import Primitives

/// What a verification found.
public struct ChunkedVerification: Sendable {
    public var summary: ChunkedSummary
    /// What is damaged, each with the object and the member; the first thousand.
    public var problems: [String]
    public var isGood: Bool { problems.isEmpty }
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

    /// Reads everything that the last backup of a chain depends on and checks it as a restore does; also what is replaced by increments.
    public static func verify(
        _ chain: [ChunkedBackup], in store: any ObjectStore, control: TransferControl = TransferControl()
    ) throws(ChunkedFailure) -> ChunkedVerification {
        do {
            try check(chain)
            let reader = try ChunkedReader(chain, from: store, to: nil, control)
            try reader.run()
            return ChunkedVerification(summary: reader.schedule.summary, problems: reader.schedule.problems)
        } catch {
            let failure = ChunkedFailure.of(error)
            guard failure.kind == .damaged else { throw failure }
            return ChunkedVerification(summary: ChunkedSummary(), problems: [failure.reason])
        }
    }

    private static func check(_ chain: [ChunkedBackup]) throws(ChunkedFailure) {
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
