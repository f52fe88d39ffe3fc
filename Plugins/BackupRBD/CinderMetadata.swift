import CDriver
import DriverKit
import Glibc

/// Objects that Cinder's Ceph driver reads and writes too: what is kept of a volume beside its bytes. Each is one RADOS object under its own
/// name, which is written whole; a list finds those of this store by the index.
struct CinderMetadata {
    private let pool: Pool
    private let index: Index
    /// Bytes; what Cinder keeps of a volume has some thousand.
    private static let longest = 16 << 20

    init(_ pool: Pool, _ index: Index) {
        self.pool = pool
        self.index = index
    }

    /// `backup.ID.meta`.
    static func isName(_ name: String) -> Bool {
        let words = name.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        return words.count == 3 && words[0].elementsEqual("backup".utf8) && words[1].count == 36 && words[2].elementsEqual("meta".utf8)
            && words[1].allSatisfy { $0 != UInt8(ascii: "/") }
    }

    func find(_ name: String) throws -> StoredObject? {
        try pool.size(of: name).map { StoredObject(name: name, size: $0.size, modified: $0.modified) }
    }

    func read(_ name: String, into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws -> Int {
        // Behind the end is no place that every cluster takes.
        guard let object = try find(name) else { throw DriverError(CLINKER_NOT_FOUND, "there is no object \(name)") }
        guard offset < object.size else { return 0 }
        guard let count = try pool.readPart(of: name, into: buffer, at: offset) else {
            throw DriverError(CLINKER_NOT_FOUND, "there is no object \(name)")
        }
        return count
    }

    func writer(_ name: String) -> any BackupObjectWriter { Writer(self, name) }

    func remove(_ name: String) throws {
        let result = try pool.startRemoving(name).wait()
        if result != -ENOENT { try Pool.check(result, "cannot remove \(name)") }
    }

    /// Named by the index first: without its object it is in no list.
    private func put(_ name: String, _ bytes: [UInt8]) throws {
        if try index.record(of: name) == nil {
            _ = try index.replace(nil, of: name, by: Record(id: DataObjects.newID(), content: [], modified: Int64(time(nil))))
        }
        let result = try bytes.withUnsafeBytes { try pool.startWriting(name, $0).wait() }
        try Pool.check(result, "cannot write \(name)")
    }

    private final class Writer: BackupObjectWriter {
        private let metadata: CinderMetadata
        private let name: String
        private var bytes: [UInt8] = []

        init(_ metadata: CinderMetadata, _ name: String) {
            self.metadata = metadata
            self.name = name
        }

        func write(_ more: UnsafeRawBufferPointer) throws {
            guard bytes.count + more.count <= CinderMetadata.longest else {
                throw DriverError(CLINKER_INVALID, "\(name) has more than \(CinderMetadata.longest) bytes")
            }
            bytes.append(contentsOf: more)
        }

        func commit() throws { try metadata.put(name, bytes) }
        func abandon() { bytes = [] }
    }
}
