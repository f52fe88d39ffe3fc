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

        static func encode(_ event: Event, isAdmin: Bool) -> [UInt8] {
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
        let filter: EventFilter
        let isAdmin: Bool

        init(projectID: String?, resourceID: String?, kind: String?, isAdmin: Bool) {
            filter = EventFilter(projectID: projectID, resourceID: resourceID, kind: kind)
            self.isAdmin = isAdmin
        }
    }

    private struct State {
        /// The latest events, their numbers ascending.
        var recent: [Encoded] = []
        /// Number of the latest event that was read.
        var last: Int64 = 0
        var subscribers: [ObjectIdentifier: Subscriber] = [:]
        /// How many each owner has.
        var owners: [String: Int] = [:]
        var isClosed = false
    }

    /// Events kept in memory; who is further behind reads the database.
    private static let kept = 4096
    private static let batch = 512
    /// Rows of the history that one turn of one follower looks at, and events that it takes along.
    private static let turn = (rows: 2048, events: 64)
    /// Seconds of silence after which a comment keeps the connection open and shows whether its client is there.
    private static let keepAlive = 15.0
    /// Seconds between two looks at whether clients may still be told.
    private static let checks = 2.0

    private let database: any Database
    private let limitPerOwner: Int
    private let log: Logger
    private let state: Guarded<State>
    private let changed = Semaphore()
    /// Whether the thread was rung for and has not looked yet.
    private let isRung = Atomic<Bool>(false)
    private let isWatched = Atomic<Bool>(false)

    /// `limitPerOwner`: streams that one owner may follow at the same time.
    public init(database: any Database, limitPerOwner: Int = .max, log: Logger) {
        self.database = database
        self.limitPerOwner = limitPerOwner
        self.log = log
        state = Guarded(State())
        database.listen(to: .events) { [weak self] _ in self?.ring() }
        startThread("events") { [self] in
            var quietSince = Timestamp.monotonic()
            var checkedAt = quietSince
            while !state.withLock({ $0.isClosed }) {
                if changed.wait(seconds: 1) {
                    isRung.store(false, ordering: .sequentiallyConsistent)
                    gather()
                    // Many changes, one round.
                    pause(0.01)
                }
                if Timestamp.monotonic() - checkedAt >= Self.checks {
                    checkedAt = Timestamp.monotonic()
                    check()
                }
                if Timestamp.monotonic() - quietSince >= Self.keepAlive {
                    quietSince = Timestamp.monotonic()
                    for subscriber in subscribers { subscriber.wake(keepingAlive: true) }
                }
            }
        }
    }

    /// The history has grown; costs next to nothing while nobody looks.
    func ring() {
        guard isWatched.load(ordering: .sequentiallyConsistent) else { return }
        if !isRung.exchange(true, ordering: .sequentiallyConsistent) { changed.post() }
    }

    /// Has the streams end whose clients may not be told more.
    func check() { for subscriber in subscribers { subscriber.check() } }

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
                let fresh = try database.readBlocking { try Events.after(last, limit: Self.batch, in: $0) }.map { Encoded($0) }
                guard let newest = fresh.last?.event.id else { return }
                state.withLock { state in
                    state.recent += fresh
                    if state.recent.count > Self.kept { state.recent.removeFirst(state.recent.count - Self.kept) }
                    state.last = newest
                }
                for subscriber in subscribers where fresh.contains(where: { subscriber.selection.filter.admits($0.event) }) {
                    subscriber.wake(keepingAlive: false)
                }
            }
        } catch { log.error("events could not be read: \(error)") }
    }

    /// A stream of what is selected, behind the event of the given number; nil: what happens from now on.
    ///
    /// It ends when `isAllowed` says no, which is asked before anything is sent and every few seconds, after `renew`.
    func subscribe(
        _ selection: Selection, after id: Int64?, owner: String, while isAllowed: @escaping @Sendable () -> Bool = { true },
        renew: @escaping @Sendable () -> Void = {}
    ) async throws -> Subscriber {
        isWatched.store(true, ordering: .sequentiallyConsistent)
        let newest = try await database.read { try Events.last(in: $0) }
        let subscriber: Subscriber? = state.withLock { state in
            let alike = state.owners[owner] ?? 0
            guard alike < limitPerOwner else { return nil }
            // While nobody looked nothing was read.
            if state.subscribers.isEmpty {
                state.recent = []
                state.last = newest
            }
            let subscriber = Subscriber(
                self, selection, cursor: min(id ?? newest, newest), owner: owner, isAllowed: isAllowed, renew: renew)
            state.subscribers[ObjectIdentifier(subscriber)] = subscriber
            state.owners[owner] = alike + 1
            isWatched.store(true, ordering: .sequentiallyConsistent)
            return subscriber
        }
        guard let subscriber else {
            throw HTTPError(
                429, "You follow \(limitPerOwner) streams of events already, the most that one user may (event_streams_per_user).",
                headers: [(name: "Retry-After", value: "60")])
        }
        ring()
        return subscriber
    }

    fileprivate func leave(_ subscriber: Subscriber) {
        state.withLock { state in
            guard state.subscribers.removeValue(forKey: ObjectIdentifier(subscriber)) != nil else { return }
            let left = (state.owners[subscriber.owner] ?? 1) - 1
            state.owners[subscriber.owner] = left > 0 ? left : nil
            if state.subscribers.isEmpty { isWatched.store(false, ordering: .sequentiallyConsistent) }
        }
    }

    fileprivate enum Next {
        /// As they are sent.
        case events([[UInt8]])
        case nothing
        /// Nothing in what was looked at; there is more to look at.
        case searching
        /// The history cannot be read.
        case failed
    }

    /// The next events of the selection behind the cursor, which moves to the last that was looked at. One turn is short, whatever
    /// is selected: of what is older than what is in memory it looks at a bounded number. To be called on the thread of the streams.
    fileprivate func next(_ selection: Selection, _ cursor: inout Int64) -> Next {
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
            while low < state.recent.count, !selection.filter.admits(state.recent[low].event) { low += 1 }
            return (low < state.recent.count ? state.recent[low] : nil, first, state.last)
        }
        if let found {
            cursor = found.event.id
            return .events([selection.isAdmin ? found.full : found.plain])
        }
        guard cursor < oldest - 1 else {
            cursor = max(cursor, last)
            return .nothing
        }
        // Further behind than what is in memory.
        let from = cursor
        do {
            let (older, seen) = try database.readBlocking {
                try Events.search(
                    selection.filter, after: from, upTo: oldest - 1, rows: Self.turn.rows, limit: Self.turn.events, in: $0)
            }
            cursor = seen
            return older.isEmpty ? .searching : .events(older.map { Encoded.encode($0, isAdmin: selection.isAdmin) })
        } catch {
            log.error("the history could not be read: \(error)")
            return .failed
        }
    }

    fileprivate var isClosed: Bool { state.withLock { $0.isClosed } }

    /// One client's stream.
    final class Subscriber: HTTPStream {
        private struct State {
            var cursor: Int64
            /// What is being sent, and what comes behind it, the next last.
            var bytes: [UInt8]
            var waiting: [[UInt8]] = []
            var sent = 0
            var wake: (@Sendable () -> Void)?
            /// A wake came while nobody was asleep.
            var isDue = false
            var keepsAlive = false
        }

        let selection: Selection
        let owner: String
        private let hub: EventHub
        private let isAllowed: @Sendable () -> Bool
        private let renew: @Sendable () -> Void
        private let state: Guarded<State>

        fileprivate init(
            _ hub: EventHub, _ selection: Selection, cursor: Int64, owner: String, isAllowed: @escaping @Sendable () -> Bool,
            renew: @escaping @Sendable () -> Void
        ) {
            self.isAllowed = isAllowed
            self.renew = renew
            self.hub = hub
            self.owner = owner
            self.selection = selection
            // The first bytes tell the client, and whoever is between, that the stream is there.
            state = Guarded(State(cursor: cursor, bytes: Array(": clinker\nretry: 1000\n\n".utf8)))
        }

        /// Has it ended if its client may not be told more.
        fileprivate func check() {
            renew()
            if !isAllowed() { wake(keepingAlive: false) }
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
                if hub.isClosed || !isAllowed() { return .end }
                var cursor = state.withLock { state in
                    state.isDue = false
                    return state.cursor
                }
                let next = hub.next(selection, &cursor)
                let pause: HTTPStreamPiece? = state.withLock { state in
                    state.cursor = cursor
                    (state.bytes, state.sent) = ([], 0)
                    defer { state.keepsAlive = false }
                    if case .events(let events) = next {
                        state.waiting = events.reversed()
                        return nil
                    }
                    // Its client goes on behind the last event that it got.
                    if case .failed = next { return .end }
                    if state.keepsAlive {
                        state.bytes = Array(": \n\n".utf8)
                        return nil
                    }
                    if case .searching = next { return .searching }
                    if state.isDue { return nil }
                    state.wake = park()
                    return .later
                }
                if let pause { return pause }
            }
        }

        private func take(_ buffer: UnsafeMutableRawBufferPointer) -> Int? {
            state.withLock { state in
                if state.sent == state.bytes.count, let following = state.waiting.popLast() {
                    state.bytes = following
                    state.sent = 0
                }
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
