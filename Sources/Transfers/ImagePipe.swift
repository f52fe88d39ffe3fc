import Glibc
import Primitives

/// Pieces of an image on their way from one thread, which gets them in order, to several that use each of them in order: one that writes,
/// others that hash. The memory is bounded: the first thread waits for the slowest of the others.
final class ImagePipe: @unchecked Sendable {
    struct Piece: Sendable {
        let slot: Int
        let offset: UInt64
        let count: Int
    }

    /// Bytes of a piece, except the last one.
    static let pieceSize = 1 << 20
    private static let slots = 12

    private let buffers: [UnsafeMutableRawBufferPointer]
    private let uses: [Guarded<Int>]
    private let free = BlockingQueue<Int>()
    /// What the caller uses.
    let pieces = BlockingQueue<Piece>()
    private var hashed: [BlockingQueue<Piece>] = []
    private let hashing = Semaphore()
    private let problem = Guarded<(any Error)?>(nil)

    /// Of the thread that fills.
    private var filling: (slot: Int, count: Int)?
    private var offset: UInt64 = 0

    /// - Parameter hashes: each gets every piece, on a thread of its own.
    init(hashes: [@Sendable (UnsafeRawBufferPointer) -> Void]) {
        buffers = (0..<Self.slots).map { _ in .allocate(byteCount: Self.pieceSize, alignment: 4096) }
        uses = (0..<Self.slots).map { _ in Guarded(0) }
        for slot in 0..<Self.slots { free.append(slot) }
        for hash in hashes {
            let queue = BlockingQueue<Piece>()
            hashed.append(queue)
            startThread("image-hash") { [self] in
                while let piece = queue.next() {
                    hash(UnsafeRawBufferPointer(bytes(piece)))
                    release(piece.slot)
                }
                hashing.post()
            }
        }
    }

    deinit { for buffer in buffers { buffer.deallocate() } }

    func bytes(_ piece: Piece) -> UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(rebasing: buffers[piece.slot][..<piece.count])
    }

    /// All of a piece's place, which may be longer than the piece.
    func room(_ piece: Piece) -> UnsafeMutableRawBufferPointer { buffers[piece.slot] }

    func retain(_ slot: Int) { uses[slot].withLock { $0 += 1 } }

    /// Whoever has used a piece says so.
    func release(_ slot: Int) {
        let isUnused = uses[slot].withLock { uses in
            uses -= 1
            return uses == 0
        }
        if isUnused { free.append(slot) }
    }

    // MARK: the thread that fills

    /// Gives the next room to a body that fills its beginning and returns how many bytes; false if nobody wants any more.
    func fill(_ body: (UnsafeMutableRawBufferPointer) throws -> Int) rethrows -> Bool {
        if filling == nil {
            guard let slot = free.next() else { return false }
            filling = (slot, 0)
        }
        guard let (slot, count) = filling else { return false }
        filling = (slot, count + (try body(UnsafeMutableRawBufferPointer(rebasing: buffers[slot][count...]))))
        return filling.map { $0.count < Self.pieceSize } ?? true ? true : pass()
    }

    func append(_ bytes: UnsafeRawBufferPointer) -> Bool {
        var rest = bytes
        while !rest.isEmpty {
            let isWanted = fill { room in
                let count = min(room.count, rest.count)
                room.copyMemory(from: UnsafeRawBufferPointer(rebasing: rest[..<count]))
                rest = UnsafeRawBufferPointer(rebasing: rest[count...])
                return count
            }
            guard isWanted else { return false }
        }
        return true
    }

    /// Called with each piece before anybody else gets it, on the thread that fills.
    var onPiece: (UnsafeRawBufferPointer) throws -> Void = { _ in }

    private func pass() -> Bool {
        guard let (slot, count) = filling else { return true }
        filling = nil
        let piece = Piece(slot: slot, offset: offset, count: count)
        offset += UInt64(count)
        do { try onPiece(UnsafeRawBufferPointer(bytes(piece))) } catch {
            stop(error)
            return false
        }
        uses[slot].withLock { $0 = hashed.count + 1 }
        for queue in hashed { queue.append(piece) }
        return pieces.append(piece)
    }

    /// Passes the last piece on.
    func finish() {
        if filling?.count ?? 0 > 0 { _ = pass() }
        close()
    }

    private func close() {
        pieces.close()
        for queue in hashed { queue.close() }
    }

    // MARK: any thread

    /// Ends it for everybody. The first failure counts.
    func stop(_ failure: any Error) {
        problem.withLock { if $0 == nil { $0 = failure } }
        free.close()
        close()
    }

    func check() throws { if let failure = problem.withLock({ $0 }) { throw failure } }

    /// Waits until everything is hashed that was passed on.
    func awaitHashes() { for _ in hashed { hashing.wait() } }
}
