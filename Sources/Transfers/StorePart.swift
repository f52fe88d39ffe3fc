import Backups

/// The objects of a store whose names begin with some words, without those.
struct StorePart: ObjectStore {
    private let store: any ObjectStore
    private let prefix: String
    let traits: ObjectStoreTraits

    init(of store: any ObjectStore, under prefix: String) {
        self.store = store
        self.prefix = prefix
        traits = store.traits
    }

    func put(_ name: String, _ slices: [UnsafeRawBufferPointer], sha256: [UInt8]?) throws(StoreFailure) {
        try store.put(prefix + name, slices, sha256: sha256)
    }
    func write(_ name: String) throws(StoreFailure) -> any ObjectWriter { try store.write(prefix + name) }
    func get(_ name: String, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(StoreFailure) -> Int {
        try store.get(prefix + name, at: offset, into: buffer)
    }
    func size(of name: String) throws(StoreFailure) -> UInt64? { try store.size(of: prefix + name) }
    func list(_ beginning: String, after: String, _ each: (String, UInt64) -> Bool) throws(StoreFailure) {
        let length = prefix.utf8.count
        try store.list(prefix + beginning, after: prefix + after) { name, size in
            each(String(decoding: name.utf8.dropFirst(length), as: UTF8.self), size)
        }
    }
    func remove(_ names: [String]) throws(StoreFailure) { try store.remove(names.map { prefix + $0 }) }
}
