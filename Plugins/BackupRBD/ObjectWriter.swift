import CDriver
import DriverKit
import Glibc

/// An object that is being written: pieces that nobody knows of until the index names them.
final class ObjectWriter: BackupObjectWriter {
    private let index: Index
    private let data: DataObjects
    private let name: String
    private let id = DataObjects.newID()
    private var gathered: [UInt8] = []
    private var size: UInt64 = 0
    private var pieces: UInt64 = 0
    private var under: [Pool.Completion] = []
    private var isOpen = true
    /// Whether no write may still be carried out that failed.
    private var isSettled = true

    init(_ index: Index, _ data: DataObjects, _ name: String) throws {
        self.index = index
        self.data = data
        self.name = name
        data.sweepOnce(index)
    }

    deinit { abandon() }

    func write(_ bytes: UnsafeRawBufferPointer) throws {
        var rest = bytes
        while !rest.isEmpty {
            if gathered.isEmpty, rest.count >= DataObjects.pieceSize {
                try send(UnsafeRawBufferPointer(rebasing: rest.prefix(DataObjects.pieceSize)))
                rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(DataObjects.pieceSize))
                continue
            }
            let count = min(rest.count, DataObjects.pieceSize - gathered.count)
            gathered.append(contentsOf: rest.prefix(count))
            rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(count))
            if gathered.count == DataObjects.pieceSize { try sendGathered() }
        }
    }

    private func sendGathered() throws {
        guard !gathered.isEmpty else { return }
        try gathered.withUnsafeBytes { try send($0) }
        gathered.removeAll(keepingCapacity: true)
    }

    private func send(_ bytes: UnsafeRawBufferPointer) throws {
        if pieces == 0 { try data.noteUnreferenced(id, of: name) }
        if under.count == DataObjects.parallel { try settle() }
        under.append(try data.pool.startWriting(data.piece(id, pieces), bytes))
        pieces += 1
        size += UInt64(bytes.count)
    }

    private func settle() throws {
        let result = under.removeFirst().wait()
        if Pool.isUncertain(result) { isSettled = false }
        try Pool.check(result, "cannot write \(name)")
    }

    func commit() throws {
        defer { abandon() }
        let record = try finished()
        // Most objects are new.
        var old: Record?
        for _ in 0..<1000 {
            if let old { try data.noteUnreferenced(old, of: name) }
            let isNamed: Bool
            do { isNamed = try index.replace(old, of: name, by: record) } catch {
                // It may be carried out later: the data stays, and the note tells in a day whether it was.
                if (error as? DriverError)?.code == CLINKER_RETRY { isOpen = false }
                throw error
            }
            guard isNamed else {
                old = try index.record(of: name)
                continue
            }
            isOpen = false
            // From here on the object is put. What cannot be removed now is noted.
            if let old { try? data.remove(old) }
            if record.isInPieces { try? data.forget(id) }
            return
        }
        throw DriverError(CLINKER_RETRY, "\(name) is replaced too often by others")
    }

    /// The record of what was written, all of which is on stable storage then.
    private func finished() throws -> Record {
        let now = Int64(time(nil))
        if pieces == 0, gathered.count <= Record.mostContent { return Record(id: id, content: gathered, modified: now) }
        try sendGathered()
        while !under.isEmpty { try settle() }
        return Record(id: id, size: size, modified: now, pieceSize: UInt64(DataObjects.pieceSize))
    }

    func abandon() {
        guard isOpen else { return }
        isOpen = false
        while !under.isEmpty { try? settle() }
        // Of what may still be carried out the note stays.
        guard isSettled, pieces > 0 else { return }
        try? data.remove(
            Record(id: id, size: pieces * UInt64(DataObjects.pieceSize), modified: 0, pieceSize: UInt64(DataObjects.pieceSize)))
    }
}
