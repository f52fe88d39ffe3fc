import DriverHost

/// What the NBD server serves. Every call blocks its thread; failures are `DriverFailure`.
protocol NBDDevice {
    /// Bytes.
    var size: UInt64 { get throws }
    /// Of every offset and length, in bytes.
    var alignment: UInt64 { get }
    /// Bytes of a request.
    var preferredSize: Int { get }
    var maximumSize: Int { get }
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws
    func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws
    func zero(offset: UInt64, length: UInt64) throws
    func flush() throws
    /// The extents of a range, in order and without gaps; `most`: not more than so many.
    func extents(offset: UInt64, length: UInt64, most: Int) throws -> [Driver.Handle.Extent]
}

/// A device that several threads may use.
protocol SharedNBDDevice: NBDDevice, Sendable {
    /// How many clients are served beside each other.
    var clientLimit: UInt32 { get }
}

extension Driver.Handle: NBDDevice {}
