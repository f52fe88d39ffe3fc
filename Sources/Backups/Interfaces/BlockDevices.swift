/// What is backed up: a volume or a snapshot. Every call blocks its thread; calls may run in parallel.
public protocol BlockSource: Sendable {
    /// Bytes.
    var size: UInt64 { get }
    /// Fills the buffer from `offset`; the range lies inside the source.
    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws
    /// The parts of a range that may hold something else than zeroes, ascending and apart from each other.
    func data(in range: Range<UInt64>) throws -> [Range<UInt64>]
    /// The parts of a range that may have changed since the parent backup's snapshot; nil where the storage does not know.
    func changes(in range: Range<UInt64>) throws -> [Range<UInt64>]?
}

/// What a backup is restored to. Every call blocks its thread; calls may run in parallel on ranges that do not overlap.
public protocol BlockTarget: Sendable {
    /// Bytes.
    var size: UInt64 { get }
    /// Whether it reads as zeroes wherever it was not written.
    var isZero: Bool { get }
    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws
    /// Makes a range read as zeroes; it should take no space afterwards.
    func zero(_ range: Range<UInt64>) throws
    /// What was written before is on stable storage on return.
    func flush() throws
}
