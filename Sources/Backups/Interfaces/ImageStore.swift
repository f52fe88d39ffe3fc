/// A store that keeps volumes as images with snapshots (`images` in `clinker/driver.h`). Every call blocks its thread. Calls about one image
/// come one after the other.
public protocol ImageStore: Sendable {
    /// nil: there is no such image.
    func image(_ name: String) throws(StoreFailure) -> StoredImage?
    func images() throws(StoreFailure) -> [StoredImage]

    /// Makes an image that reads as zeroes. One of this name and size succeeds, and is as it was.
    func make(_ image: String, gibibytes: Int) throws(StoreFailure)
    /// An image never shrinks.
    func grow(_ image: String, gibibytes: Int) throws(StoreFailure)
    /// Fails while it has snapshots: nothing was changed then. One that is gone is removed.
    func remove(_ image: String) throws(StoreFailure)

    /// One that is there succeeds, and is as it was.
    func makeSnapshot(_ snapshot: String, of image: String) throws(StoreFailure)
    /// One that is gone is removed.
    func removeSnapshot(_ snapshot: String, of image: String) throws(StoreFailure)
    /// Gives an image the content of its snapshot, and at least so many GiB.
    func revert(_ image: String, to snapshot: String, gibibytes: Int) throws(StoreFailure)

    /// An image, or a snapshot of it, to be read. `changes` of it are those since the snapshot `base`; nil without one.
    func open(_ image: String, at snapshot: String?, since base: String?) throws(StoreFailure) -> any BlockSource
    /// An image to be written to, by one at a time, until the last reference to it is gone.
    func openForWriting(_ image: String) throws(StoreFailure) -> any BlockTarget
}

/// An image as its store knows it.
public struct StoredImage: Sendable, Equatable {
    public let name: String
    /// Bytes.
    public let size: UInt64
    /// Their names, in the order in which they were made.
    public let snapshots: [String]

    public init(name: String, size: UInt64, snapshots: [String]) {
        self.name = name
        self.size = size
        self.snapshots = snapshots
    }
}
