import CDriver
import DriverKit
import ObjectServers

/// The objects of backups in a container of OpenStack Swift.
final class SwiftStore: BackupStore, @unchecked Sendable {
    private let client: SwiftClient
    private let limits: SwiftLimits
    /// Larger objects are sent in segments: what breaks is not begun from the start.
    private var largestWhole: Int { min(limits.largest, 1 << 30) }
    private var largestObject: Int {
        limits.hasSegments ? limits.largest.multipliedReportingOverflow(by: limits.mostSegments).partialValue : limits.largest
    }

    init(_ call: Call) throws {
        let options = try SwiftOptions(call)
        let requester = Requester(call)
        if options.reach.isInsecure {
            call.log(
                CLINKER_WARNING, "backup_swift_auth_insecure = true: whoever is between this machine and Swift can read and replace backups"
            )
        }
        client = SwiftClient(options)
        try client.openContainer(requester)
        limits = try client.limits(requester)
        do { try client.removeOldSegments(requester) } catch let error as DriverError {
            call.log(CLINKER_WARNING, "segments that no object is made of are not removed: \(error.message)")
        }
    }

    func capabilities(_ call: Call) {
        call.set("storage_protocol", "swift")
        // Listings follow the objects in their own time.
        call.set("consistent_list", false)
        call.set("range_get", true)
        call.set("maximum_object_size", Int64(largestObject))
        call.set("checks_sha256", false)
        call.set("object_lock", false)
    }

    func stats(_ call: Call) throws { try client.checkContainer(Requester(call)) }

    func put(_ call: Call, _ name: String, _ slices: [UnsafeRawBufferPointer], sha256: UnsafeRawBufferPointer?) throws {
        let requester = Requester(call)
        let size = slices.reduce(0) { $0 + $1.count }
        guard size > largestWhole else {
            try client.put(name, slices, requester)
            return
        }
        guard size <= largestObject else {
            throw DriverError(CLINKER_INVALID, "\(name): an object has at most \(largestObject) bytes here")
        }
        let large = try SegmentedObject(client, name, limits)
        do {
            let segment = min(limits.largest, max(256 << 20, size / limits.mostSegments + 1))
            for piece in ObjectPieces.cut(slices, segment) {
                try large.add(piece, requester)
                call.progress(done: 0, total: 0)
            }
            try large.commit(requester)
        } catch {
            large.abandon()
            throw error
        }
    }

    func openWriter(_ call: Call, _ name: String) throws -> any BackupObjectWriter { SwiftWriter(client, name, limits) }

    func get(_ call: Call, _ name: String, into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws -> Int {
        try client.get(name, at: offset, into: buffer, Requester(call))
    }

    func object(_ call: Call, _ name: String) throws -> StoredObject {
        guard let found = try client.sendIfThere(SwiftClient.Request("HEAD", name), for: Requester(call)) else {
            throw SwiftClient.notFound(name)
        }
        return try found.object(named: name)
    }

    func list(_ call: Call, prefix: String, after: String, _ each: (StoredObject) -> Bool) throws {
        try client.list(prefix: prefix, after: after, Requester(call), each)
    }

    func remove(_ call: Call, _ names: [String]) throws {
        let requester = Requester(call)
        let mayBeLarge = try client.hasSegments(requester)
        var first: (any Error)?
        for name in names {
            do { try client.remove(name, mayBeLarge: mayBeLarge, requester) } catch { first = first ?? error }
            if requester.isCancelled() { throw DriverError(CLINKER_CANCELLED, "cancelled") }
        }
        if let first { throw first }
    }
}

nonisolated(unsafe) private let table = makeStoreTable(
    name: "swift", version: "1.0.0", vendor: "Clinker", offering: .writers, options: SwiftOptions.declarations
) {
    openStore($0, $1) { try SwiftStore($0) }
}

/// The plugin's exported symbol.
@c(clinker_store_v1)
public func swiftStore() -> UnsafePointer<clinker_store>? { table }
