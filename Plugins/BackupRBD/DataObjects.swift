import CDriver
import DriverKit
import Glibc
import Synchronization

/// The data of the objects, in pieces that are RADOS objects, under an id of their own: nobody sees them before the index names the id.
///
/// Before data is written, and before the index forgets an id, the id is noted: what a process that died left is found by that a day later.
final class DataObjects: Sendable {
    let pool: Pool
    static let pieceSize = 8 << 20
    private let hasSwept = Mutex(false)
    /// Seconds: a writer elsewhere may live, and be slow; and clocks differ.
    private static let patience: Int64 = 86_400
    /// The most requests of one object that are under way.
    static let parallel = 4

    init(_ pool: Pool) { self.pool = pool }

    static func newID() -> String {
        let words = (UInt64.random(in: 0...UInt64.max), UInt64.random(in: 0...UInt64.max))
        return [words.0, words.1].map { word in
            let text = String(word, radix: 16)
            return String(repeating: "0", count: 16 - text.utf8.count) + text
        }.joined()
    }

    static func isID(_ text: String) -> Bool {
        text.utf8.count == 32 && text.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
    }

    func piece(_ id: String, _ number: UInt64) -> String { "clinker.data.\(id).\(number)" }

    // MARK: notes

    private static func notes(_ id: String) -> String { "clinker.unreferenced.\(id.prefix(1))" }

    /// Notes that data may be there which the index does not name.
    func noteUnreferenced(_ id: String, of name: String) throws {
        try pool.setValue(of: id, in: Self.notes(id), to: Array("\(time(nil)) \(name)".utf8))
    }

    /// The same of the data that an object has.
    func noteUnreferenced(_ record: Record, of name: String) throws { if record.isInPieces { try noteUnreferenced(record.id, of: name) } }

    func forget(_ id: String) throws { try pool.setValue(of: id, in: Self.notes(id), to: nil) }

    /// Removes what was noted more than a day ago and is not named by the index; once.
    func sweepOnce(_ index: Index) {
        let isFirst = hasSwept.withLock { swept in
            defer { swept = true }
            return !swept
        }
        guard isFirst else { return }
        let limit = Int64(time(nil)) - Self.patience
        for digit in "0123456789abcdef" {
            guard let notes = try? pool.values(of: Self.notes(String(digit)), prefix: "", after: "", atMost: 1000) else { return }
            for note in notes.entries where Self.isID(note.key) {
                let words = String(decoding: note.value, as: UTF8.self).split(separator: " ", maxSplits: 1).map(String.init)
                guard words.count == 2, let when = Int64(words[0]), when < limit else { continue }
                // What cannot be looked at or removed now stays noted.
                guard let named = try? index.record(of: words[1])?.id else {
                    try? sweep(note.key, index, words[1])
                    continue
                }
                if named == note.key { try? forget(note.key) } else { try? sweep(note.key, index, words[1]) }
            }
        }
    }

    /// Removes pieces until there are none: they are written in order, a few at a time.
    private func sweep(_ id: String, _ index: Index, _ name: String) throws {
        guard try index.record(of: name)?.id != id else { return }
        var (number, missing) = (UInt64(0), 0)
        while missing <= 2 * Self.parallel {
            let result = try pool.startRemoving(piece(id, number)).wait()
            if result == -ENOENT { missing += 1 } else { missing = 0 }
            if result != -ENOENT { try Pool.check(result, "cannot remove \(piece(id, number))") }
            number += 1
        }
        try forget(id)
    }

    // MARK: objects

    /// False if a piece is not there, or shorter than the record says.
    func read(_ record: Record, into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws -> Bool {
        guard record.isInPieces else {
            // Whoever reads asks for no more than there is.
            let start = min(Int(clamping: offset), record.content.count)
            buffer.copyBytes(from: record.content[start...].prefix(buffer.count))
            return record.content.count - start >= buffer.count
        }
        var done = 0
        while done < buffer.count {
            let place = offset + UInt64(done)
            let start = place % record.pieceSize
            let count = Int(min(UInt64(buffer.count - done), record.pieceSize - start))
            let part = UnsafeMutableRawBufferPointer(rebasing: buffer[done..<done + count])
            guard try pool.read(piece(record.id, place / record.pieceSize), into: part, at: start) else { return false }
            done += count
        }
        return true
    }

    /// Removes the data of an object that the index names no longer, and its note.
    func remove(_ record: Record) throws {
        guard record.isInPieces else { return }
        let pieces = record.size == 0 ? 0 : (record.size - 1) / record.pieceSize + 1
        var under: [(String, Pool.Completion)] = []
        func settle() throws {
            let (object, completion) = under.removeFirst()
            let result = completion.wait()
            if result != -ENOENT { try Pool.check(result, "cannot remove \(object)") }
        }
        for number in 0..<pieces {
            if under.count == Self.parallel { try settle() }
            under.append((piece(record.id, number), try pool.startRemoving(piece(record.id, number))))
        }
        while !under.isEmpty { try settle() }
        try forget(record.id)
    }
}
