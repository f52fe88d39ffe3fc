import Primitives

/// Runs the same work on several threads of their own and waits for all.
///
/// - Parameter stop: called after a thread failed, so that the others end early.
/// - Throws: the first error.
func runCrew(
    _ count: Int, _ name: String, stop: @escaping @Sendable () -> Void, _ body: @escaping @Sendable () throws -> Void
) throws {
    let failure = Guarded<(any Error)?>(nil)
    let ended = Semaphore()
    for _ in 0..<count {
        startThread(name) {
            do { try body() } catch {
                failure.withLock { $0 = $0 ?? error }
                stop()
            }
            ended.post()
        }
    }
    for _ in 0..<count { ended.wait() }
    if let error = failure.withLock({ $0 }) { throw error }
}
