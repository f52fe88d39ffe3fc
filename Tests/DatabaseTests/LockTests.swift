import TestSupport
import Testing

@testable import Database

@Suite("Locks of rows")
struct LockTests {
    private static let shelves = LockRank(1, "shelf")
    private static let boxes = LockRank(2, "box")

    @Test("locks are taken rank by rank, and by key within a rank; one that is held is taken again at any time")
    func kept() {
        var order = LockOrder()
        let shelf = RowLock(Self.shelves, "b")
        for lock in [RowLock(Self.shelves, "a"), shelf, shelf, RowLock(Self.boxes, "a"), RowLock(Self.boxes, "a b"), shelf] {
            #expect(order.take(lock) == nil)
        }
    }

    @Test(
        "a lock that belongs before one that is held is found out, with the one that was taken too early",
        arguments: [
            (RowLock(boxes, "a"), RowLock(shelves, "b")), (RowLock(shelves, "b"), RowLock(shelves, "a")),
            (RowLock(shelves, "é"), RowLock(shelves, "z")),
        ])
    func violated(early: RowLock, late: RowLock) {
        var order = LockOrder()
        #expect(order.take(early) == nil)
        #expect(order.take(late) == early)
    }

    #if DEBUG
        @Test("a transaction that locks in another order traps and names both locks")
        func trap() async throws {
            let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
                let database = try SQLiteDatabase(path: ":memory:")
                try await database.write { tx in
                    tx.notesLocks { [RowLock(LockRank(2, "box"), "a")] }
                    tx.notesLocks { [RowLock(LockRank(1, "shelf"), "b")] }
                }
            }
            let words = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
            #expect(words.contains("shelf b is locked after box a, which belongs behind it"), "\(words)")
        }
    #endif

    @Test("each change begins without locks, though several share a commit")
    func separate() async throws {
        let temporary = try TemporaryDatabase()
        await withThrowingTaskGroup(of: Void.self) { group in
            for key in ["c", "b", "a"] {
                group.addTask { try await temporary.database.write { $0.notesLocks { [RowLock(Self.shelves, key)] } } }
            }
        }
    }
}
