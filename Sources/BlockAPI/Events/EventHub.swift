import BlockStorage
public import Database
import HTTPServer
import JSON
public import Logging
import Primitives
import Synchronization

/// Hands the history out as it grows. Every event is read and encoded once, however many look; a subscriber is no more than
/// its place in the row of events.
public final class EventHub: Sendable {
    /// One event as clients get it: for administrators, and for others.
    final class Encoded: Sendable {
        let event: Event
        let full, plain: [UInt8]

        init(_ event: Event) {
            self.event = event
            full = Self.encode(event, isAdmin: true)
            plain = Self.encode(event, isAdmin: false)
        }

        private static func encode(_ event: Event, isAdmin: Bool) -> [UInt8] {
            var data = (try? JSON(parsing: event.data)) ?? .object([:])
            // What a backend says is for its administrators.
            if !isAdmin, var object = data.object {
                object["error"] = nil
                data = .object(object)
            }
            let value: JSON = [
                "id": .integer(event.id), "time": .string(event.time), "kind": .string(event.kind),
                "resource_type": .string(event.resourceType), "resource_id": .string(event.resourceID),
                "project_id": .string(event.projectID), "operation_id": JSON(event.operationID), "request_id": .string(event.requestID),
                "data": data,
            ]
            return Array("id: \(event.id)\nevent: \(event.kind)\ndata: \(value.text)\n\n".utf8)
        }
    }

    struct Selection: Sendable {
        /// nil: of all projects.
        var projectID: String?
        var resourceID: String?
        /// A kind, or its beginning up to a dot.
        var kind: String?
        var isAdmin: Bool

        func admits(_ event: Event) -> Bool {
            (projectID.map { $0 == event.projectID } ?? true) && (resourceID.map { $0 == event.resourceID } ?? true)
                && (kind.map { event.kind == $0 || event.kind.hasPrefix($0 + ".") } ?? true)
        }
    }

    private struct State {
        /// The latest events, their numbers ascending.
        var recent: [Encoded] = []
        /// Number of the latest event that was read.
        var last: Int64 = 0
        var subscribers: [ObjectIdentifier: Subscriber] = [:]
        var isClosed = false
    }

    /// Events kept in memory; who is further behind reads the database.
    private static let kept = 4096
    private static let batch = 512
    /// Seconds of silence after which a comment keeps the connection open and shows whether its client is there.
    private static let keepAlive = 15.0

    private let database: any Database
    private let log: Logger
    private let state: Guarded<State>
    private let changed = Semaphore()
    /// Whether the thread was rung for and has not looked yet.
    private let isRung = Atomic<Bool>(false)
    private let isWatched = Atomic<Bool>(false)

    public init(database: any Database, log: Logger) {
        self.database = database
        self.log = log
        state = Guarded(State())
        startThread("events") { [self] in
            var quietSince = Timestamp.monotonic()
            while !state.withLock({ $0.isClosed }) {
                if changed.wait(seconds: 1) {
                    isRung.store(false, ordering: .sequentiallyConsistent)
                    gather()
                    // Many changes, one round.
                    pause(0.01)
                }
                if Timestamp.monotonic() - quietSince >= Self.keepAlive {
                    quietSince = Timestamp.monotonic()
                    for subscriber in subscribers { subscriber.wake(keepingAlive: true) }
                }
            }
        }
    }

    /// Something was committed; costs next to nothing while nobody looks.
    public func ring() {
        guard isWatched.load(ordering: .sequentiallyConsistent) else { return }
        if !isRung.exchange(true, ordering: .sequentiallyConsistent) { changed.post() }
    }

    /// Ends every stream.
    public func close() {
        state.withLock { $0.isClosed = true }
        changed.post()
        for subscriber in subscribers { subscriber.wake(keepingAlive: false) }
    }

    public var count: Int { state.withLock { $0.subscribers.count } }

    private var subscribers: [Subscriber] { state.withLock { Array($0.subscribers.values) } }

    /// Reads what is new and wakes those whom it concerns.
    private func gather() {
        do {
            while true {
                let last = state.withLock { $0.last }
                let fresh = try database.read { try Events.after(last, limit: Self.batch, in: $0) }.map { Encoded($0) }
                guard let newest = fresh.last?.event.id else { return }
                state.withLock { state in
                    state.recent += fresh
                    if state.recent.count > Self.kept { state.recent.removeFirst(state.recent.count - Self.kept) }
                    state.last = newest
                }
                for subscriber in subscribers where fresh.contains(where: { subscriber.selection.admits($0.event) }) {
                    subscriber.wake(keepingAlive: false)
                }
            }
        } catch { log.error("events could not be read: \(error)") }
    }

    /// A stream of what is selected, behind the event of the given number; nil: what happens from now on.
    func subscribe(_ selection: Selection, after id: Int64?) throws -> Subscriber {
        isWatched.store(true, ordering: .sequentiallyConsistent)
        let newest = try database.read { try Events.last(in: $0) }
        let subscriber = state.withLock { state in
            // While nobody looked nothing was read.
            if state.subscribers.isEmpty {
                state.recent = []
                state.last = newest
            }
            let subscriber = Subscriber(self, selection, cursor: min(id ?? newest, newest))
            state.subscribers[ObjectIdentifier(subscriber)] = subscriber
            isWatched.store(true, ordering: .sequentiallyConsistent)
            return subscriber
        }
        ring()
        return subscriber
    }

    fileprivate func leave(_ subscriber: Subscriber) {
        state.withLock { state in
            state.subscribers.removeValue(forKey: ObjectIdentifier(subscriber))
            if state.subscribers.isEmpty { isWatched.store(false, ordering: .sequentiallyConsistent) }
        }
    }

    /// The next event of the selection behind the cursor, which moves to it, or past everything that is not selected.
    fileprivate func next(_ selection: Selection, _ cursor: inout Int64) -> Encoded? {
        while true {
            let (found, oldest, last): (Encoded?, Int64, Int64) = state.withLock { state in
                guard let first = state.recent.first?.event.id, cursor >= first - 1 else {
                    return (nil, state.recent.first?.event.id ?? state.last + 1, state.last)
                }
                // Numbers rise by one except where a transaction was undone: near enough to begin the search.
                var low = 0
                var high = state.recent.count
                while low < high {
                    let middle = (low + high) / 2
                    if state.recent[middle].event.id <= cursor { low = middle + 1 } else { high = middle }
                }
                while low < state.recent.count, !selection.admits(state.recent[low].event) { low += 1 }
                return (low < state.recent.count ? state.recent[low] : nil, first, state.last)
            }
            if let found {
                cursor = found.event.id
                return found
            }
            guard cursor < oldest - 1 else {
                cursor = max(cursor, last)
                return nil
            }
            // Further behind than what is in memory.
            guard let older = try? database.read({ try Events.after(cursor, limit: Self.batch, in: $0) }), !older.isEmpty else {
                cursor = max(cursor, last)
                return nil
            }
            for event in older {
                cursor = event.id
                if selection.admits(event) { return Encoded(event) }
            }
        }
    }

    fileprivate var isClosed: Bool { state.withLock { $0.isClosed } }

    /// One client's stream.
    final class Subscriber: HTTPStream {
        private struct State {
            var cursor: Int64
            /// What is being sent.
            var bytes: [UInt8]
            var sent = 0
            var wake: (@Sendable () -> Void)?
            /// A wake came while nobody was asleep.
            var isDue = false
            var keepsAlive = false
        }

        let selection: Selection
        private let hub: EventHub
        private let state: Guarded<State>

        fileprivate init(_ hub: EventHub, _ selection: Selection, cursor: Int64) {
            self.hub = hub
            self.selection = selection
            // The first bytes tell the client, and whoever is between, that the stream is there.
            state = Guarded(State(cursor: cursor, bytes: Array(": clinker\nretry: 1000\n\n".utf8)))
        }

        fileprivate func wake(keepingAlive: Bool) {
            let wake = state.withLock { state in
                state.isDue = true
                if keepingAlive { state.keepsAlive = true }
                defer { state.wake = nil }
                return state.wake
            }
            wake?()
        }

        func read(into buffer: UnsafeMutableRawBufferPointer, park: () -> @Sendable () -> Void) -> HTTPStreamPiece {
            while true {
                if let count = take(buffer) { return .bytes(count) }
                if hub.isClosed { return .end }
                var cursor = state.withLock { state in
                    state.isDue = false
                    return state.cursor
                }
                let next = hub.next(selection, &cursor)
                let isAsleep = state.withLock { state in
                    state.cursor = cursor
                    if let next {
                        state.bytes = selection.isAdmin ? next.full : next.plain
                        state.sent = 0
                    } else if state.keepsAlive {
                        state.bytes = Array(": \n\n".utf8)
                        state.sent = 0
                    } else if !state.isDue {
                        state.bytes = []
                        state.wake = park()
                        return true
                    }
                    state.keepsAlive = false
                    return false
                }
                if isAsleep { return .later }
            }
        }

        private func take(_ buffer: UnsafeMutableRawBufferPointer) -> Int? {
            state.withLock { state in
                let count = min(buffer.count, state.bytes.count - state.sent)
                guard count > 0 else { return nil }
                state.bytes.withUnsafeBytes {
                    buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[state.sent..<(state.sent + count)]))
                }
                state.sent += count
                return count
            }
        }

        func closed() { hub.leave(self) }
    }
}
