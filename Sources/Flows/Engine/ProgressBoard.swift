import Primitives

/// How far running operations are, in memory: it changes too often for the log.
final class ProgressBoard: Sendable {
    private let board = Guarded<[String: (done: UInt64, total: UInt64)]>([:])
    func set(_ id: String, _ done: UInt64, _ total: UInt64) { board.withLock { $0[id] = (done, total) } }
    func clear(_ id: String) { board.withLock { _ = $0.removeValue(forKey: id) } }
    /// 0...1, nil if nothing was reported.
    func fraction(_ id: String) -> Double? {
        board.withLock { board in board[id].flatMap { $0.total > 0 ? Double($0.done) / Double($0.total) : nil } }
    }
}
