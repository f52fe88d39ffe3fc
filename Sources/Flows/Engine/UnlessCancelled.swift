import Primitives

/// Seconds: more than all repetitions of a request take.
private let longestAnswer = 3600.0

/// What is asked over the network ends by itself, and uses nothing that a stop takes away: the stop does not wait for it.
func unlessCancelled<T: Sendable>(_ body: @escaping @Sendable () async throws -> T) async throws -> T {
    let answer = Promise<T>()
    let task = Task {
        do { answer.fulfil(.success(try await body())) } catch { answer.fulfil(.failure(error)) }
    }
    return try await withTaskCancellationHandler {
        try await answer.value(within: longestAnswer) {}
    } onCancel: {
        task.cancel()
        answer.fulfil(.failure(CancellationError()))
    }
}
