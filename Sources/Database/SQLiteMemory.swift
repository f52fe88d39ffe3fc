import CLinux
import CSQLite
import Glibc

/// The memory of SQLite where it was built without lookaside, as Debian builds it. Whenever a statement runs, SQLite takes a small piece
/// for each cursor and each column of text, and gives it back when the statement is reset: a third of a request's allocations. Lookaside
/// (https://sqlite.org/malloc.html#lookaside) would keep such pieces with the connection; here they are kept with the thread, so that no
/// lock is needed. They are ordinary memory of libc, so one thread may free what another took.
enum SQLiteMemory {
    /// Pieces of up to this many bytes are kept, in classes of sizes: 24, 56, 88 and so on, as libc rounds them anyway.
    private static let largest = 24 + (classes - 1) * step
    private static let smallest = 24
    private static let step = 32
    private static let classes = 33
    /// Bytes that a thread keeps of one class.
    private static let keptOfClass = 4096

    /// Pieces that a thread has free: of each class the first one, which holds a pointer to the next, and how many there are.
    private struct Kept {
        var first: UnsafeMutableRawPointer?
        var count = 0
    }

    /// Where a thread finds its pieces; they are given back when it ends.
    private static let key: pthread_key_t = {
        var key = pthread_key_t()
        let status = pthread_key_create(&key) { raw in
            guard let raw else { return }
            let kept = raw.assumingMemoryBound(to: Kept.self)
            for index in 0..<SQLiteMemory.classes {
                while let piece = SQLiteMemory.take(&kept[index]) { Glibc.free(piece) }
            }
            Glibc.free(raw)
        }
        precondition(status == 0, "no key for SQLite's memory is left")
        return key
    }()

    /// Whether SQLite was built without lookaside.
    static var isNeeded: Bool { sqlite3_compileoption_used("OMIT_LOOKASIDE") != 0 }

    /// Before any connection is opened.
    static func use() {
        guard isNeeded else { return }
        _ = key
        var methods = sqlite3_mem_methods(
            xMalloc: { SQLiteMemory.allocate(Int($0)) }, xFree: { SQLiteMemory.free($0) },
            xRealloc: { SQLiteMemory.reallocate($0, Int($1)) },
            xSize: { Int32(clamping: malloc_usable_size($0)) }, xRoundup: { Int32(clamping: SQLiteMemory.roundedUp(Int($0))) },
            xInit: { _ in SQLITE_OK }, xShutdown: { _ in }, pAppData: nil)
        _ = clinker_sqlite_use_memory(&methods)
    }

    /// Bytes that the calling thread keeps.
    static var keptBytes: Int {
        guard let kept = pieces() else { return 0 }
        return (0..<classes).reduce(0) { $0 + kept[$1].count * (smallest + $1 * step) }
    }

    static func roundedUp(_ size: Int) -> Int {
        size <= smallest ? smallest : size <= largest ? smallest + (size - smallest + step - 1) / step * step : (size + 7) & ~7
    }

    private static func pieces() -> UnsafeMutablePointer<Kept>? {
        if let known = pthread_getspecific(key) { return known.assumingMemoryBound(to: Kept.self) }
        guard let new = calloc(classes, MemoryLayout<Kept>.stride) else { return nil }
        guard pthread_setspecific(key, new) == 0 else {
            Glibc.free(new)
            return nil
        }
        return new.assumingMemoryBound(to: Kept.self)
    }

    private static func take(_ kept: inout Kept) -> UnsafeMutableRawPointer? {
        guard let piece = kept.first else { return nil }
        kept.first = piece.load(as: UnsafeMutableRawPointer?.self)
        kept.count -= 1
        return piece
    }

    static func allocate(_ size: Int) -> UnsafeMutableRawPointer? {
        let rounded = roundedUp(size)
        if rounded <= largest, let kept = pieces(), let piece = take(&kept[(rounded - smallest) / step]) { return piece }
        return malloc(rounded)
    }

    static func free(_ piece: UnsafeMutableRawPointer?) {
        guard let piece else { return }
        let size = malloc_usable_size(piece)
        guard size >= smallest, size < largest + step, let kept = pieces() else { return Glibc.free(piece) }
        // What libc gave beyond the class's size is not used.
        let index = (size - smallest) / step
        guard (kept[index].count + 1) * (smallest + index * step) <= keptOfClass else { return Glibc.free(piece) }
        piece.storeBytes(of: kept[index].first, as: UnsafeMutableRawPointer?.self)
        kept[index].first = piece
        kept[index].count += 1
    }

    static func reallocate(_ piece: UnsafeMutableRawPointer?, _ size: Int) -> UnsafeMutableRawPointer? {
        realloc(piece, roundedUp(size))
    }
}
