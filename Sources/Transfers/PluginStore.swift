public import Backups
public import DriverHost

/// A store plugin as what backups are written to and read from. What fails for trouble that may pass is called again as for every driver.
public struct PluginStore: ObjectStore {
    private let store: Store
    public let traits: ObjectStoreTraits
    /// Whether the store's library keeps images, too, as a driver that is opened with the same options.
    let hasImages: Bool
    /// Milliseconds before each repetition of a call that said RETRY.
    private let pauses: [UInt32]

    public init(_ store: Store) throws(StoreFailure) { try self.init(store, pauses: Repetition.pauses) }

    init(_ store: Store, pauses: [UInt32]) throws(StoreFailure) {
        self.store = store
        self.pauses = pauses
        do {
            let found = try store.capabilities()
            hasImages = found["images"]?.boolean ?? false
            func size(_ name: String) -> Int? { found[name]?.integer.flatMap { $0 > 0 ? Int($0) : nil } }
            traits = ObjectStoreTraits(
                listsConsistently: found["consistent_list"]?.boolean ?? false, preferredObjectSize: size("preferred_object_size"),
                maximumObjectSize: size("maximum_object_size"))
        } catch { throw StoreFailure(error as? DriverFailure ?? DriverFailure(.error, "\(error)")) }
    }

    public func put(_ name: String, _ slices: [UnsafeRawBufferPointer], sha256: [UInt8]?) throws(StoreFailure) {
        try again { () throws(DriverFailure) in try store.put(name, slices, sha256: sha256) }
    }

    public func write(_ name: String) throws(StoreFailure) -> any ObjectWriter {
        try again { () throws(DriverFailure) in PluginWriter(try store.write(name)) }
    }

    public func get(_ name: String, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(StoreFailure) -> Int {
        try again { () throws(DriverFailure) in try store.get(name, at: offset, into: buffer) }
    }

    public func size(of name: String) throws(StoreFailure) -> UInt64? {
        try again { () throws(DriverFailure) in try store.object(name)?.size }
    }

    public func list(_ prefix: String, after: String, _ each: (String, UInt64) -> Bool) throws(StoreFailure) {
        // A repetition begins where the list broke off.
        var last = after
        try again { () throws(DriverFailure) in
            try store.list(prefix, after: last) { object in
                last = object.name
                return each(object.name, object.size)
            }
        }
    }

    public func remove(_ names: [String]) throws(StoreFailure) {
        try again { () throws(DriverFailure) in try store.remove(names) }
    }

    private func again<T>(_ call: () throws(DriverFailure) -> T) throws(StoreFailure) -> T {
        do { return try Repetition.run(pauses: pauses, call) } catch { throw StoreFailure(error) }
    }
}

/// What was written before a failure is not repeated: the object is begun again.
private struct PluginWriter: ObjectWriter {
    let writer: Store.Writer
    init(_ writer: Store.Writer) { self.writer = writer }

    func append(_ bytes: UnsafeRawBufferPointer) throws(StoreFailure) {
        do { try writer.append(bytes) } catch { throw StoreFailure(error) }
    }
    func commit() throws(StoreFailure) {
        do { try writer.commit() } catch { throw StoreFailure(error) }
    }
    func abandon() { writer.abandon() }
}

extension StoreFailure {
    /// The failure of a store's call, for whoever works with its objects.
    public init(_ failure: DriverFailure) {
        let kind: Kind =
            switch failure.code {
            case .retry, .unavailable, .hostDied: .temporary
            case .notFound: .notFound
            case .noSpace: .noSpace
            case .badConfiguration: .forbidden
            case .cancelled: .cancelled
            case .error, .busy, .exists, .unsupported, .invalid: .permanent
            }
        self.init(kind, failure.message)
    }
}
