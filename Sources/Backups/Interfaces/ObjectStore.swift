/// Where the objects of backups lie: the contract of `clinker_store` (`clinker/driver.h`) in Swift.
///
/// An object is a name and bytes that never change. Names are words of letters, digits and `-_.`, joined by `/`. Every call blocks its
/// thread; calls may run in parallel, also with the same name.
public protocol ObjectStore: Sendable {
    var traits: ObjectStoreTraits { get }

    /// Stores an object made of the slices one after the other: whole or absent, on stable storage on return. An object of this name is
    /// replaced; the same bytes again succeed.
    ///
    /// - Parameter sha256: SHA-256 of the whole object where the caller knows it.
    func put(_ name: String, _ slices: [UnsafeRawBufferPointer], sha256: [UInt8]?) throws(StoreFailure)

    /// Stores an object whose size is not known at first. Nothing is visible under the name before `commit`.
    func write(_ name: String) throws(StoreFailure) -> any ObjectWriter

    /// Reads bytes from an offset until the buffer is full or the object ends.
    ///
    /// - Returns: the number of bytes read; less than the buffer's size only at the end of the object.
    /// - Throws: `.notFound` if there is no such object.
    func get(_ name: String, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(StoreFailure) -> Int

    /// The size of an object in bytes; nil if there is none.
    func size(of name: String) throws(StoreFailure) -> UInt64?

    /// Calls `each` for every object whose name begins with the prefix and comes after `after` in the order of UTF-8 bytes, in that
    /// order, with its name and size in bytes; stops when `each` returns false.
    func list(_ prefix: String, after: String, _ each: (String, UInt64) -> Bool) throws(StoreFailure)

    /// Removes objects; one that is gone already counts as removed.
    func remove(_ names: [String]) throws(StoreFailure)
}

/// An object that is being written.
public protocol ObjectWriter {
    func append(_ bytes: UnsafeRawBufferPointer) throws(StoreFailure)
    /// Makes the object visible, on stable storage.
    func commit() throws(StoreFailure)
    /// Gives up what was written. After `commit` it has no effect.
    func abandon()
}

/// What a store can do.
public struct ObjectStoreTraits: Sendable, Equatable {
    /// Whether a listing names every object that was put, and none that was removed, before it began.
    public var listsConsistently: Bool
    /// The size in bytes that objects should have; nil if the store does not mind.
    public var preferredObjectSize: Int?
    /// The largest size in bytes that an object may have; nil if there is no limit.
    public var maximumObjectSize: Int?

    public init(listsConsistently: Bool = true, preferredObjectSize: Int? = nil, maximumObjectSize: Int? = nil) {
        self.listsConsistently = listsConsistently
        self.preferredObjectSize = preferredObjectSize
        self.maximumObjectSize = maximumObjectSize
    }
}

/// Why a call of a store failed, and what its caller does next.
public struct StoreFailure: Error, Sendable, CustomStringConvertible {
    public enum Kind: Sendable {
        /// Nothing helps.
        case permanent
        /// Another attempt may succeed.
        case temporary
        /// There is no such object.
        case notFound
        /// The store has no room.
        case noSpace
        /// The store refuses these credentials.
        case forbidden
        case cancelled
    }

    public let kind: Kind
    public let description: String

    public init(_ kind: Kind, _ description: String) {
        self.kind = kind
        self.description = description
    }
}
