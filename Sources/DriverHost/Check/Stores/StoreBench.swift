import Glibc
import Primitives

/// What a case works with: the store, names of its own, which are removed when the case ends, and assertions.
final class StoreBench: CheckAssertions, Sendable {
    let store: Store
    let options: DriverValue
    let path: String
    let witness: DriverWitness
    /// All names of the case begin with it: cases run beside each other in one store.
    let home = "check-" + UUID.random()

    init(path: String, options: DriverValue, witness: DriverWitness = DriverWitness()) throws {
        self.path = path
        self.options = options
        self.witness = witness
        store = try Store(StorePlugin(path: path), options: options, witness: witness)
    }

    /// Another instance of the same store.
    func another() throws -> Store { try Store(store.plugin, options: options, witness: witness) }

    /// A name of the case's own.
    func name(_ words: String) -> String { home + "/" + words }

    /// Removes everything that the case put, and requires that nothing is left.
    func clean() throws {
        try store.remove(try names())
        let left = try names()
        try require(left.isEmpty, "removed, yet these are still listed: \(left.prefix(5).joined(separator: ", "))")
    }

    // MARK: objects

    func put(_ name: String, _ bytes: [UInt8], to store: Store? = nil) throws {
        try bytes.withUnsafeBytes { try (store ?? self.store).put(name, [$0]) }
    }

    func put(_ name: String, _ text: String, to store: Store? = nil) throws { try put(name, Array(text.utf8), to: store) }

    /// A range of an object. What lies in the buffer beforehand is no zeroes.
    func get(_ name: String, at offset: UInt64 = 0, count: Int = 1 << 20, from store: Store? = nil) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0xA5, count: count)
        let found = try bytes.withUnsafeMutableBytes { try (store ?? self.store).get(name, at: offset, into: $0) }
        bytes.removeSubrange(found...)
        return bytes
    }

    /// Requires that an object is these bytes, by get, stat_object and list.
    func expect(_ bytes: [UInt8], as name: String, _ what: String, in store: Store? = nil) throws {
        let found = try get(name, count: bytes.count + 16, from: store)
        try require(found.count == bytes.count, "\(what): \(found.count) bytes are read, \(bytes.count) were put")
        try require(CheckBench.same(found, bytes), "\(what): it has other bytes than were put")
        let size = try (store ?? self.store).object(name)?.size
        try require(size == UInt64(bytes.count), "\(what): stat_object says \(size.map(String.init) ?? "NOT_FOUND"), not \(bytes.count)")
        var listed: [Store.Object] = []
        try (store ?? self.store).list(name, after: "") { object in
            if object.name == name { listed.append(object) }
            return true
        }
        let sizes = listed.map(\.size)
        try require(sizes == [UInt64(bytes.count)], "\(what): in the list its sizes are \(sizes), not [\(bytes.count)]")
    }

    func expect(_ text: String, as name: String, _ what: String, in store: Store? = nil) throws {
        try expect(Array(text.utf8), as: name, what, in: store)
    }

    /// Requires that there is no such object, by get, stat_object and list.
    func expectNone(_ name: String, _ what: String, in store: Store? = nil) throws {
        try refused([.notFound], "\(what): get") { _ = try get(name, from: store) }
        try require(try (store ?? self.store).object(name) == nil, "\(what): stat_object knows it")
        try require(!(try names(name, in: store).contains(name)), "\(what): it is listed")
    }

    /// The names of a prefix; of the case's own if it is not said.
    func names(_ prefix: String? = nil, after: String = "", in store: Store? = nil) throws -> [String] {
        var names: [String] = []
        try (store ?? self.store).list(prefix ?? home, after: after) { object in
            names.append(object.name)
            return true
        }
        return names
    }

    // MARK: threads

    /// Runs work on so many threads at the same time; the first failure is thrown when all have ended.
    func together(_ threads: Int, _ work: @escaping @Sendable (Int) throws -> Void) throws {
        let failure = Guarded<(any Error)?>(nil)
        let ended = Semaphore()
        for index in 0..<threads {
            startThread("check-\(index)") {
                do { try work(index) } catch { failure.withLock { $0 = $0 ?? error } }
                ended.post()
            }
        }
        for _ in 0..<threads { ended.wait() }
        if let failure = failure.withLock({ $0 }) { throw failure }
    }
}
