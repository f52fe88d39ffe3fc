import Glibc
import Primitives

@testable import Backups

/// A store in memory, which can be copied at any moment.
final class MemoryStore: ObjectStore {
    private let content: Guarded<[String: [UInt8]]>
    let traits = ObjectStoreTraits()

    init(_ objects: [String: [UInt8]] = [:]) { content = Guarded(objects) }

    var objects: [String: [UInt8]] { content.withLock { $0 } }

    func put(_ name: String, _ slices: [UnsafeRawBufferPointer], sha256: [UInt8]?) throws(StoreFailure) {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(slices.reduce(0) { $0 + $1.count })
        for slice in slices { bytes.append(contentsOf: slice) }
        let whole = bytes
        content.withLock { $0[name] = whole }
    }

    func write(_ name: String) throws(StoreFailure) -> any ObjectWriter {
        throw StoreFailure(.permanent, "a repository knows the size of its objects")
    }

    func get(_ name: String, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(StoreFailure) -> Int {
        guard let bytes = content.withLock({ $0[name] }) else { throw StoreFailure(.notFound, "there is no \(name)") }
        let start = min(bytes.count, Int(offset))
        let count = min(buffer.count, bytes.count - start)
        bytes.withUnsafeBytes { buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[start..<start + count])) }
        return count
    }

    func size(of name: String) throws(StoreFailure) -> UInt64? { content.withLock { $0[name].map { UInt64($0.count) } } }

    func list(_ prefix: String, after: String, _ each: (String, UInt64) -> Bool) throws(StoreFailure) {
        let found = content.withLock { objects in
            objects.filter { $0.key.hasPrefix(prefix) && $0.key > after }.map { ($0.key, UInt64($0.value.count)) }
        }
        for (name, size) in found.sorted(by: { $0.0 < $1.0 }) { guard each(name, size) else { return } }
    }

    func remove(_ names: [String]) throws(StoreFailure) { content.withLock { for name in names { $0[name] = nil } } }
}

/// Whether two images are the same, without looking at each byte by itself.
func isSame(_ a: [UInt8], _ b: [UInt8]) -> Bool {
    a.count == b.count
        && a.withUnsafeBytes { a in b.withUnsafeBytes { b in a.isEmpty || memcmp(a.baseAddress!, b.baseAddress!, a.count) == 0 } }
}

/// Who decides when a call of a store happens, and whether its caller still lives.
protocol StoreGate: Sendable {
    /// - Throws: the call is not made.
    func enter(changes: Bool) throws(StoreFailure)
    /// - Throws: the call was made, but its caller does not get to know.
    func leave(changes: Bool) throws(StoreFailure)
}

/// A store whose calls pass a gate.
struct GatedStore: ObjectStore {
    let store: any ObjectStore
    let gate: any StoreGate
    var traits: ObjectStoreTraits { store.traits }

    private func pass<Result>(_ changes: Bool, _ call: () throws(StoreFailure) -> Result) throws(StoreFailure) -> Result {
        try gate.enter(changes: changes)
        let result: Result
        do throws(StoreFailure) { result = try call() } catch {
            try gate.leave(changes: changes)
            throw error
        }
        try gate.leave(changes: changes)
        return result
    }

    func put(_ name: String, _ slices: [UnsafeRawBufferPointer], sha256: [UInt8]?) throws(StoreFailure) {
        try pass(true) { () throws(StoreFailure) in try store.put(name, slices, sha256: sha256) }
    }
    func write(_ name: String) throws(StoreFailure) -> any ObjectWriter { try store.write(name) }
    func get(_ name: String, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(StoreFailure) -> Int {
        try pass(false) { () throws(StoreFailure) in try store.get(name, at: offset, into: buffer) }
    }
    func size(of name: String) throws(StoreFailure) -> UInt64? {
        try pass(false) { () throws(StoreFailure) in try store.size(of: name) }
    }
    func list(_ prefix: String, after: String, _ each: (String, UInt64) -> Bool) throws(StoreFailure) {
        try pass(false) { () throws(StoreFailure) in try store.list(prefix, after: after, each) }
    }
    /// One object after the other: whoever dies in between has removed some of them.
    func remove(_ names: [String]) throws(StoreFailure) {
        for name in names { try pass(true) { () throws(StoreFailure) in try store.remove([name]) } }
    }
}

/// A store whose listings do not name some of its objects yet.
struct StaleStore: ObjectStore {
    let store: any ObjectStore
    let hidden: Set<String>
    var traits: ObjectStoreTraits { ObjectStoreTraits(listsConsistently: false) }

    func put(_ name: String, _ slices: [UnsafeRawBufferPointer], sha256: [UInt8]?) throws(StoreFailure) {
        try store.put(name, slices, sha256: sha256)
    }
    func write(_ name: String) throws(StoreFailure) -> any ObjectWriter { try store.write(name) }
    func get(_ name: String, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(StoreFailure) -> Int {
        try store.get(name, at: offset, into: buffer)
    }
    func size(of name: String) throws(StoreFailure) -> UInt64? { try store.size(of: name) }
    func list(_ prefix: String, after: String, _ each: (String, UInt64) -> Bool) throws(StoreFailure) {
        try store.list(prefix, after: after) { name, size in hidden.contains(name) || each(name, size) }
    }
    func remove(_ names: [String]) throws(StoreFailure) { try store.remove(names) }
}

/// A process that dies before or after a certain change, and makes no call from then on.
final class CrashGate: StoreGate {
    private struct State {
        var left: Int
        var isDead = false
    }
    private let state: Guarded<State>
    private let after: Bool

    /// - Parameters:
    ///   - change: the how manieth change it dies at, from 1.
    ///   - after: whether that change still happens.
    init(at change: Int, after: Bool) {
        state = Guarded(State(left: change))
        self.after = after
    }

    var hasCrashed: Bool { state.withLock { $0.isDead } }

    static let death = StoreFailure(.permanent, "the process is dead")

    func enter(changes: Bool) throws(StoreFailure) {
        let isDead = state.withLock { state -> Bool in
            if changes { state.left -= 1 }
            if changes, state.left == 0, !after { state.isDead = true }
            return state.isDead
        }
        if isDead { throw Self.death }
    }

    func leave(changes: Bool) throws(StoreFailure) {
        let isDead = state.withLock { state -> Bool in
            if changes, state.left <= 0, after { state.isDead = true }
            return state.isDead
        }
        if isDead { throw Self.death }
    }
}
