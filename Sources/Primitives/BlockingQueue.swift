/// A first-in-first-out queue whose consumers block their threads until there is something to take.
public final class BlockingQueue<Element: Sendable>: Sendable {
    private struct State {
        var items: [Element] = []
        var closed = false
    }
    private let state = Guarded(State())
    private let signal = Semaphore()

    public init() {}

    /// Appends; false if the queue is closed.
    @discardableResult
    public func append(_ element: Element) -> Bool {
        let accepted = state.withLock { state in
            guard !state.closed else { return false }
            state.items.append(element)
            return true
        }
        if accepted { signal.post() }
        return accepted
    }

    /// Waits for at least one element and takes all (or at most `limit`); nil once closed and empty.
    public func take(atMost limit: Int = .max) -> [Element]? {
        while true {
            let (items, closed) = state.withLock { state -> ([Element], Bool) in
                if state.items.count <= limit {
                    defer { state.items = [] }
                    return (state.items, state.closed)
                }
                let head = Array(state.items.prefix(limit))
                state.items.removeFirst(limit)
                return (head, state.closed)
            }
            if !items.isEmpty { return items }
            if closed {
                signal.post()  // wakes the next consumer
                return nil
            }
            signal.wait()
        }
    }

    /// Waits for the next element; nil once closed and empty.
    public func next() -> Element? {
        while true {
            let (item, closed) = state.withLock { ($0.items.isEmpty ? nil : $0.items.removeFirst(), $0.closed) }
            if let item { return item }
            if closed {
                signal.post()  // wakes the next consumer
                return nil
            }
            signal.wait()
        }
    }

    public func close() {
        state.withLock { $0.closed = true }
        signal.post()
    }
}
