import Glibc
import JSON
import Primitives

/// A lock file below `locks/`, in restic's format, so that restic and we keep out of each other's way.
struct LockRecord: Sendable {
    /// What our own lock is for; restic ignores the member.
    enum Purpose: String, Sendable { case work, prune }

    /// When the lock was last renewed.
    var time: Double
    var isExclusive: Bool
    var hostname: String
    var pid: Int64
    /// Our own locks say what they are for and when the work began, which stays the same when the lock is renewed.
    var purpose: Purpose?
    var startedAt: Double?

    var json: JSON {
        var json = JSONObject()
        json["time"] = .string(Timestamp.format(time) + "Z")
        json["exclusive"] = .bool(isExclusive)
        json["hostname"] = .string(hostname)
        json["username"] = "clinker"
        json["pid"] = .integer(pid)
        if let purpose { json["clinker"] = .string(purpose.rawValue) }
        if let startedAt { json["started"] = .string(Timestamp.format(startedAt) + "Z") }
        return .object(json)
    }

    init(time: Double, isExclusive: Bool, hostname: String, pid: Int64, purpose: Purpose?, startedAt: Double?) {
        self.time = time
        self.isExclusive = isExclusive
        self.hostname = hostname
        self.pid = pid
        self.purpose = purpose
        self.startedAt = startedAt
    }

    init?(json: JSON) {
        guard let time = json["time"]?.string.flatMap({ Timestamp.read($0) }) else { return nil }
        self.time = time
        isExclusive = json["exclusive"]?.bool ?? false
        hostname = json["hostname"]?.string ?? ""
        pid = json["pid"]?.integer ?? 0
        purpose = json["clinker"]?.string.flatMap { Purpose(rawValue: $0) }
        startedAt = json["started"]?.string.flatMap { Timestamp.read($0) }
    }

    /// Whether nobody can hold the lock any more: not renewed for half an hour, as restic sees it, or its process is gone from this host.
    func isStale(now: Double, on host: String) -> Bool {
        if now - time > 1800 { return true }
        guard hostname == host, !host.isEmpty, pid > 0, pid <= Int64(pid_t.max) else { return false }
        return kill(pid_t(pid), 0) != 0 && errno == ESRCH
    }

    var description: String { "\(hostname.shortened(to: 60)) (process \(pid)) since \(Timestamp.format(startedAt ?? time))" }
}

/// What locks and marks take for the time, in seconds since 1970.
struct RepositoryClock: Sendable {
    private let read: @Sendable () -> Double
    var now: Double { read() }

    init(_ read: @escaping @Sendable () -> Double = { Timestamp.seconds() }) { self.read = read }
}

/// A lock that is held, and renewed every five minutes, until it is released. Any thread.
final class RepositoryLock: Sendable {
    private struct State {
        var name: Digest?
        var renewedAt: Double
        var fault: String?
    }

    let record: LockRecord
    private let store: any ObjectStore
    private let keys: SealingKeys
    private let clock: RepositoryClock
    private let state: Guarded<State>
    private let stop = Semaphore()
    private static let renewal = 300.0
    /// A lock that could not be renewed for so long may be taken for abandoned soon: who holds it stops.
    private static let validity = 1200.0

    private init(_ record: LockRecord, name: Digest, store: any ObjectStore, keys: SealingKeys, clock: RepositoryClock) {
        self.record = record
        self.store = store
        self.keys = keys
        self.clock = clock
        state = Guarded(State(name: name, renewedAt: Timestamp.monotonic()))
    }

    /// Takes a lock, waiting for somebody whose lock excludes it.
    ///
    /// - Parameters:
    ///   - patience: seconds to wait before the attempt fails with `.locked`.
    ///   - isCancelled: ends the wait.
    static func take(
        _ purpose: LockRecord.Purpose, store: any ObjectStore, keys: SealingKeys, hostname: String, patience: Double,
        clock: RepositoryClock,
        isCancelled: () -> Bool = { false }
    ) throws -> RepositoryLock {
        let objects = SealedObjects(store, keys)
        let started = clock.now
        let deadline = Timestamp.monotonic() + patience
        while true {
            var blocker = try excluding(purpose, objects, hostname, clock, except: nil)
            if blocker == nil {
                let record = LockRecord(
                    time: clock.now, isExclusive: false, hostname: hostname, pid: Int64(getpid()), purpose: purpose,
                    startedAt: started)
                let name = try objects.save(.locks, record.json)
                // Somebody may have looked before our lock was there and put theirs: both look again.
                do { blocker = try excluding(purpose, objects, hostname, clock, except: name) } catch {
                    try? store.remove([ObjectKind.locks.name(name)])
                    throw error
                }
                if blocker == nil {
                    let lock = RepositoryLock(record, name: name, store: store, keys: keys, clock: clock)
                    startThread("repository-lock") { lock.renew() }
                    return lock
                }
                try store.remove([ObjectKind.locks.name(name)])
            }
            guard !isCancelled() else { throw RepositoryError(.cancelled, "cancelled while waiting for the repository's lock") }
            guard Timestamp.monotonic() < deadline else {
                throw RepositoryError(.locked, "the repository is locked by \(blocker?.description ?? "somebody")")
            }
            pause(min(1, 0.1 + Double.random(in: 0..<0.2)))
        }
    }

    private static func excluding(
        _ purpose: LockRecord.Purpose, _ objects: SealedObjects, _ hostname: String, _ clock: RepositoryClock, except own: Digest?
    ) throws -> LockRecord? {
        try all(objects, hostname, clock).first { name, record in
            name != own && (record.isExclusive || (purpose == .prune && record.purpose == .prune))
        }?.record
    }

    /// The locks that somebody may hold.
    static func all(_ objects: SealedObjects, _ hostname: String, _ clock: RepositoryClock) throws -> [(name: Digest, record: LockRecord)] {
        let now = clock.now
        var found: [(name: Digest, record: LockRecord)] = []
        for (name, _) in try objects.list(.locks) {
            do {
                // Exclusive until it can be read: what we do not understand holds us off, as it does restic.
                let record =
                    LockRecord(json: try objects.loadJSON(.locks, name))
                    ?? LockRecord(time: now, isExclusive: true, hostname: "", pid: 0, purpose: nil, startedAt: nil)
                if !record.isStale(now: now, on: hostname) { found.append((name, record)) }
            } catch let failure as StoreFailure where failure.kind == .notFound {
                continue
            }
        }
        return found
    }

    private func renew() {
        let objects = SealedObjects(store, keys)
        while !stop.wait(seconds: Self.renewal) {
            do {
                var record = record
                record.time = clock.now
                let name = try objects.save(.locks, record.json)
                let old: Digest? = state.withLock { state in
                    guard let old = state.name else { return name }
                    state.name = name
                    state.renewedAt = Timestamp.monotonic()
                    return old
                }
                if let old { try store.remove([ObjectKind.locks.name(old)]) }
            } catch {
                state.withLock { $0.fault = "\(error)" }
            }
        }
    }

    /// The lock's object; nil once it is released.
    var name: Digest? { state.withLock { $0.name } }

    /// Throws if the lock could not be renewed for so long that others may take it for abandoned.
    func check() throws {
        let (age, fault) = state.withLock { (Timestamp.monotonic() - $0.renewedAt, $0.fault) }
        guard age > Self.validity else { return }
        throw RepositoryError(.locked, "the repository's lock could not be renewed for \(Int(age)) seconds: \(fault ?? "no reason known")")
    }

    /// Gives the lock up. What is left of it when the store fails counts as abandoned after half an hour.
    func release() {
        stop.post()
        let name = state.withLock { state -> Digest? in
            defer { state.name = nil }
            return state.name
        }
        if let name { try? store.remove([ObjectKind.locks.name(name)]) }
    }
}

/// This host's name, for lock and key files.
func localHostname() -> String {
    var name = [CChar](repeating: 0, count: 256)
    guard gethostname(&name, name.count - 1) == 0 else { return "" }
    return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
