import Glibc

/// How a chunked backup is written.
public struct ChunkedOptions: Sendable {
    /// The largest size in bytes of what one object holds of the volume: Cinder's `backup_file_size`. Larger values than memory allows,
    /// such as Cinder's default, mean as much as it allows: objects are made in memory, several at a time.
    public var objectSize = Self.largestObject
    /// Bytes of the volume that one hash covers: Cinder's `backup_sha_block_size_bytes`. It must be that of the parent.
    public var blockSize = 32768
    public var compression = ChunkedCompression.zlib
    /// Whether an earlier attempt may have stored some of the objects: what is there already with the same bytes is not sent again.
    public var isContinued = false
    /// The share of the blocks said to be unchanged that are read all the same, to find storage that says what is not true: one at
    /// least, if it is not 0.
    public var sampledShare = 0.001
    /// Parts of the volume that cannot be read from the parent: an increment stores them whether they changed or not. Whole objects: one of
    /// which a part is still needed is read as a whole.
    public var damagedParts: [Range<UInt64>] = []
    /// Threads that work at a time, where memory allows it.
    public var threads = max(2, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))) + 1)

    public init() {}

    static let largestObject = 32 << 20
    /// Bytes of the volume that all objects in work may hold. As much again is needed of what they are compressed to, until it is clear
    /// that it is smaller; one at a time may take more than `uncertainOutput` of that.
    static let memory = 60 << 20
    static let uncertainOutput = 6 << 20
    /// Bytes of output that an object may have while all of its input is kept: memory that is given back is cleared when it is needed again.
    static let outputBesideInput = 10 << 20
    /// Threads that may share this memory: with more of them objects would be too small, and too many.
    static let mostThreads = 3

    /// Threads that work at a time.
    var workers: Int { max(1, min(threads, Self.mostThreads, Self.memory / blockSize)) }

    /// Bytes that one object holds: whole blocks, and whole pieces if there is room for any.
    var windowSize: Int {
        let room = Self.memory / workers - compression.encoderMemory
        let size = min(objectSize, Self.largestObject, room)
        return max(blockSize, size >= pieceSize ? size / pieceSize * pieceSize : size / blockSize * blockSize)
    }

    /// Bytes that are read, hashed and compressed at once, so that they stay in the processor's cache: whole blocks.
    var pieceSize: Int { blockSize * max(1, (1 << 20) / blockSize) }

    func check() throws(ChunkedFailure) {
        guard blockSize > 0, ChunkedLimits.block.contains(UInt64(blockSize)) else {
            throw .invalid("backup_sha_block_size_bytes must be from 512 to 16777216, not \(blockSize)")
        }
        guard objectSize > 0, objectSize % blockSize == 0 else {
            throw .invalid("backup_file_size must be a multiple of backup_sha_block_size_bytes: \(objectSize) of \(blockSize)")
        }
    }
}

/// What was done.
public struct ChunkedSummary: Sendable, Equatable {
    /// Objects that hold bytes of the volume.
    public var objects = 0
    /// Bytes of the volume in those objects.
    public var contained: UInt64 = 0
    /// Bytes that were read from the volume.
    public var read: UInt64 = 0
    /// Bytes that were put into the store, or read from it.
    public var stored: UInt64 = 0
    /// Objects that an earlier attempt had put.
    public var kept = 0
    /// Bytes that were written to the volume.
    public var written: UInt64 = 0
    /// Where the source said that nothing had changed but something had: the whole volume was read, and its list of changes cannot be
    /// trusted until somebody has found out why.
    public var missedChange: UInt64?
}
