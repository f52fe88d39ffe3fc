import CLinux
import Glibc
import Primitives
import TestSupport
import Testing

@testable import Database

@Suite("SQLite's memory")
struct SQLiteMemoryTests {
    @Test("a piece has at least the bytes asked for, and SQLite is told the same size before and after")
    func sizes() {
        for size in 0...5000 {
            let rounded = SQLiteMemory.roundedUp(size)
            #expect(rounded >= size && SQLiteMemory.roundedUp(rounded) == rounded)
            let piece = SQLiteMemory.allocate(size)
            #expect(piece.map { malloc_usable_size($0) } ?? 0 >= rounded)
            SQLiteMemory.free(piece)
        }
    }

    @Test("what a thread gave back it gets again, however many other sizes came between")
    func reuse() {
        let first = SQLiteMemory.allocate(40)
        SQLiteMemory.free(first)
        for size in stride(from: 100, to: 5000, by: 50) { SQLiteMemory.free(SQLiteMemory.allocate(size)) }
        let second = SQLiteMemory.allocate(40)
        #expect(first == second)
        SQLiteMemory.free(second)
        SQLiteMemory.free(nil)
    }

    @Test("pieces that are in use at once do not overlap, and keep what is in them when they grow")
    func content() {
        var pieces: [(memory: UnsafeMutableRawPointer, size: Int)] = []
        for round in 0..<3 {
            for index in 0..<500 {
                let size = 1 + (index * 37 + round) % 1500
                guard let memory = SQLiteMemory.allocate(size) else { return }
                memset(memory, Int32(UInt8(truncatingIfNeeded: index)), size)
                pieces.append((memory, size))
            }
            for (index, piece) in pieces.enumerated() {
                guard let grown = SQLiteMemory.reallocate(piece.memory, piece.size * 2) else { return }
                let bytes = UnsafeRawBufferPointer(start: grown, count: piece.size)
                #expect(bytes.allSatisfy { $0 == UInt8(truncatingIfNeeded: index) })
                SQLiteMemory.free(grown)
            }
            pieces = []
        }
    }

    @Test("one thread gives back what another took")
    func threads() {
        let pieces = (0..<200).compactMap { _ in SQLiteMemory.allocate(64) }.map { Piece(memory: $0) }
        let ended = Semaphore()
        let held = Guarded(0)
        startThread("memory") {
            for piece in pieces { SQLiteMemory.free(piece.memory) }
            held.withLock { $0 = SQLiteMemory.keptBytes }
            ended.post()
        }
        ended.wait()
        #expect(held.withLock { $0 } > 0 && held.withLock { $0 } <= 4096)
    }

    private struct Piece: @unchecked Sendable { let memory: UnsafeMutableRawPointer }

    @Test("a thread keeps a bounded amount, whatever was given back to it")
    func bound() {
        let ended = Semaphore()
        let held = Guarded(0)
        startThread("memory") {
            let pieces = (0..<40_000).map { SQLiteMemory.allocate($0 % 1100) }
            for piece in pieces { SQLiteMemory.free(piece) }
            held.withLock { $0 = SQLiteMemory.keptBytes }
            ended.post()
        }
        ended.wait()
        #expect(held.withLock { $0 } <= 33 * 4096)
    }

    @Test("where SQLite was built without lookaside, what a statement gave back is kept for the next one")
    func statements() async throws {
        let temporary = try TemporaryDatabase()
        try await temporary.database.migrate([DatabaseTests.create])
        try await temporary.database.write { tx in
            for index in 0..<50 { try tx.run(DatabaseTests.insert, .text("a key of some length \(index)"), .int(index), .real(1)) }
        }
        guard SQLiteMemory.isNeeded else { return }
        let sum = try await temporary.database.read { connection in
            for _ in 0..<2 { _ = try connection.collect(DatabaseTests.all, []) }
            return SQLiteMemory.keptBytes
        }
        #expect(sum > 0)
    }
}
