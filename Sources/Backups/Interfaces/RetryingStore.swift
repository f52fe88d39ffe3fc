import Primitives

/// A store whose temporary failures are tried again, with growing pauses, before the caller hears of them.
public struct RetryingStore: ObjectStore {
    private let store: any ObjectStore
    /// Pauses in seconds before each further attempt.
    private let pauses: [Double]

    public var traits: ObjectStoreTraits { store.traits }

    /// - Parameter pauses: seconds before each further attempt; the standard ones give a store that is away for half a minute its time.
    public init(_ store: any ObjectStore, pauses: [Double] = [0.2, 0.5, 1, 2, 4, 8, 16]) {
        self.store = store
        self.pauses = pauses
    }

    private func attempt<Result>(_ body: () throws(StoreFailure) -> Result) throws(StoreFailure) -> Result {
        for seconds in pauses {
            do throws(StoreFailure) { return try body() } catch {
                guard error.kind == .temporary else { throw error }
                // Many threads that failed together do not come back together.
                pause(seconds * Double.random(in: 0.75...1.25))
            }
        }
        return try body()
    }

    public func put(_ name: String, _ slices: [UnsafeRawBufferPointer], sha256: [UInt8]?) throws(StoreFailure) {
        try attempt { () throws(StoreFailure) in try store.put(name, slices, sha256: sha256) }
    }

    /// What was appended cannot be repeated: only the beginning is tried again.
    public func write(_ name: String) throws(StoreFailure) -> any ObjectWriter {
        try attempt { () throws(StoreFailure) in try store.write(name) }
    }

    public func get(_ name: String, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(StoreFailure) -> Int {
        try attempt { () throws(StoreFailure) in try store.get(name, at: offset, into: buffer) }
    }

    public func size(of name: String) throws(StoreFailure) -> UInt64? {
        try attempt { () throws(StoreFailure) in try store.size(of: name) }
    }

    /// Goes on after the last name that the caller has seen.
    public func list(_ prefix: String, after: String, _ each: (String, UInt64) -> Bool) throws(StoreFailure) {
        var last = after
        var isStopped = false
        try attempt { () throws(StoreFailure) in
            guard !isStopped else { return }
            try store.list(prefix, after: last) { name, size in
                last = name
                isStopped = !each(name, size)
                return !isStopped
            }
        }
    }

    public func remove(_ names: [String]) throws(StoreFailure) {
        try attempt { () throws(StoreFailure) in try store.remove(names) }
    }
}
