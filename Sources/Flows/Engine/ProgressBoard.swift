import Primitives

/// How far running operations are, in memory: it changes too often for the log.
final class ProgressBoard: Sendable {
    private struct Entry {
        var done: UInt64 = 0
        var total: UInt64 = 0
        var waitsForTransfer = false
    }

    private let board = Guarded<[String: Entry]>([:])
    func set(_ id: String, _ done: UInt64, _ total: UInt64) {
        board.withLock {
            $0[id, default: Entry()].done = done
            $0[id, default: Entry()].total = total
        }
    }
    func setWaiting(_ id: String, _ isWaiting: Bool) { board.withLock { $0[id, default: Entry()].waitsForTransfer = isWaiting } }
    func clear(_ id: String) { board.withLock { _ = $0.removeValue(forKey: id) } }
    /// 0...1, nil if nothing was reported.
    func fraction(_ id: String) -> Double? {
        board.withLock { board in board[id].flatMap { $0.total > 0 ? Double($0.done) / Double($0.total) : nil } }
    }
    /// Whether its transfer waits for a place among those that run.
    func waitsForTransfer(_ id: String) -> Bool { board.withLock { $0[id]?.waitsForTransfer ?? false } }
}
