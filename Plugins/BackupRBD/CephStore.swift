import CDriver
import CephClient
import DriverKit
import Glibc

/// Backups in a pool of Ceph. Images with snapshots, as Cinder's driver makes them, are the library's other part, `CephImages`; this one keeps
/// objects: data in pieces of RADOS objects, names in an index that is kept in order.
final class CephStore: BackupStore, @unchecked Sendable {
    private let pool: Pool
    private let index: Index
    private let data: DataObjects
    private let metadata: CinderMetadata

    init(_ call: Call) throws {
        pool = Pool(try Cluster(CephOptions.cluster(call)))
        data = DataObjects(pool)
        index = Index(pool)
        metadata = CinderMetadata(pool, index)
        // That the client may use the pool.
        _ = try index.record(of: "clinker")
    }

    func capabilities(_ call: Call) {
        call.set("storage_protocol", "ceph")
        call.set("consistent_list", true)
        call.set("range_get", true)
        call.set("checks_sha256", false)
        call.set("object_lock", false)
        call.set("images", true)
    }

    func stats(_ call: Call) throws {
        let space = try pool.space()
        call.set("total_capacity_gb", space.map { Double($0.total) / 1_073_741_824 } ?? -1)
        call.set("free_capacity_gb", space.map { Double($0.free) / 1_073_741_824 } ?? -1)
    }

    func put(_ call: Call, _ name: String, _ slices: [UnsafeRawBufferPointer], sha256: UnsafeRawBufferPointer?) throws {
        let writer = try openWriter(call, name)
        do {
            for slice in slices {
                if call.isCancelled { throw DriverError(CLINKER_CANCELLED, "cancelled") }
                try writer.write(slice)
            }
        } catch {
            writer.abandon()
            throw error
        }
        try writer.commit()
    }

    func openWriter(_ call: Call, _ name: String) throws -> any BackupObjectWriter {
        CinderMetadata.isName(name) ? metadata.writer(name) : try ObjectWriter(index, data, name)
    }

    func get(_ call: Call, _ name: String, into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws -> Int {
        if CinderMetadata.isName(name) { return try metadata.read(name, into: buffer, at: offset) }
        var record = try found(name)
        for _ in 0..<100 {
            guard offset < record.size else { return 0 }
            let count = Int(min(UInt64(buffer.count), record.size - offset))
            if try data.read(record, into: UnsafeMutableRawBufferPointer(rebasing: buffer.prefix(count)), at: offset) { return count }
            // A piece is gone: the object was removed or replaced meanwhile, or it is damaged.
            let now = try found(name)
            guard now != record else { throw DriverError(CLINKER_ERROR, "\(name): a piece of it is missing in \(pool.name)") }
            record = now
        }
        throw DriverError(CLINKER_RETRY, "\(name) is replaced faster than it is read")
    }

    func object(_ call: Call, _ name: String) throws -> StoredObject {
        if CinderMetadata.isName(name) {
            guard let object = try metadata.find(name) else { throw missing(name) }
            return object
        }
        let record = try found(name)
        return StoredObject(name: name, size: record.size, modified: record.modified)
    }

    private func found(_ name: String) throws -> Record {
        guard let record = try index.record(of: name) else { throw missing(name) }
        return record
    }

    private func missing(_ name: String) -> DriverError { DriverError(CLINKER_NOT_FOUND, "there is no object \(name)") }

    func list(_ call: Call, prefix: String, after: String, _ each: (StoredObject) -> Bool) throws {
        try index.walk(prefix: prefix, after: after, isCancelled: { call.isCancelled }) { name, record in
            guard CinderMetadata.isName(name) else {
                return each(StoredObject(name: name, size: record.size, modified: record.modified))
            }
            return try metadata.find(name).map(each) ?? true
        }
    }

    func remove(_ call: Call, _ names: [String]) throws {
        var first: (any Error)?
        for name in names {
            do {
                if CinderMetadata.isName(name) { try metadata.remove(name) }
                while let record = try index.record(of: name) {
                    try data.noteUnreferenced(record, of: name)
                    guard try index.replace(record, of: name, by: nil) else { continue }
                    try data.remove(record)
                    break
                }
            } catch let error as DriverError {
                // A cluster that does not answer is not waited for a thousand times.
                if error.code == CLINKER_RETRY { throw error }
                first = first ?? error
            }
        }
        if let first { throw first }
    }
}

nonisolated(unsafe) private let table = makeStoreTable(
    name: "rbd", version: "1.0.0", vendor: "Clinker", offering: .writers, options: CephOptions.all
) {
    openStore($0, $1) { try CephStore($0) }
}

/// The plugin's exported symbol.
@c(clinker_store_v1)
public func cephStore() -> UnsafePointer<clinker_store>? { table }
