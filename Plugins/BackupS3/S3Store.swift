import CDriver
import DriverKit
import ObjectServers

/// The objects of backups in a bucket of an S3 server.
final class S3Store: BackupStore, @unchecked Sendable {
    private let client: S3Client
    private let hasLock: Bool
    private let notes: UploadNotes?
    /// Larger objects are sent in parts.
    private static let largestWhole = 64 << 20
    /// Amazon's limit.
    private static let largestObject: Int64 = 5 << 40

    init(_ call: Call) throws {
        let options = try S3Options(call)
        let requester = Requester(call)
        if options.reach.isInsecure, options.address.scheme == "https" {
            call.log(
                CLINKER_WARNING, "backup_s3_verify_ssl = false: whoever is between this machine and the server can read and replace backups"
            )
        }
        if !options.encryption.isEmpty, options.address.scheme == "http" {
            call.log(
                CLINKER_WARNING, "backup_s3_sse_customer_key is sent with each request, and over http whoever is in between can read it")
        }
        client = S3Client(options)
        do { _ = try client.send(Self.look, for: requester) } catch let failure as S3Failure {
            guard failure.status == 404, options.makesBucket else {
                throw failure.status == 404
                    ? DriverError(
                        CLINKER_BAD_CONFIGURATION, "there is no bucket \(options.bucket): make it, or set backup_create_containers")
                    : failure.trouble.error
            }
            try client.makeBucket(requester)
        }
        hasLock = try client.hasObjectLock(requester)
        notes = UploadNotes(in: options.stateDirectory)
        notes?.removeOld(client, requester)
    }

    /// Asks for the bucket, and whether it may be read.
    private static var look: S3Client.Request { S3Client.Request("GET", query: [("list-type", "2"), ("max-keys", "1")]) }

    func capabilities(_ call: Call) {
        call.set("storage_protocol", "s3")
        call.set("consistent_list", client.options.listsConsistently)
        call.set("range_get", true)
        call.set("maximum_object_size", Self.largestObject)
        // Amazon's checks it; many of its kin do not.
        call.set("checks_sha256", false)
        call.set("object_lock", hasLock)
    }

    func stats(_ call: Call) throws { try client.checkBucket(Requester(call)) }

    func put(_ call: Call, _ name: String, _ slices: [UnsafeRawBufferPointer], sha256: UnsafeRawBufferPointer?) throws {
        let requester = Requester(call)
        if hasLock { try client.refuseIfProtected(name, requester) }
        let size = slices.reduce(0) { $0 + $1.count }
        guard size > Self.largestWhole else {
            _ = try client.put(name, slices, sha256: sha256.map { Array($0) }, requester)
            return
        }
        guard size <= Self.largestObject else { throw DriverError(CLINKER_INVALID, "\(name): an object has at most 5 TiB") }
        let upload = try S3Upload(client, name, notes: notes, requester)
        do {
            let part = max(32 << 20, ((size / S3Upload.mostParts) / (1 << 20) + 1) << 20)
            for piece in ObjectPieces.cut(slices, part) {
                try upload.add(piece, requester)
                call.progress(done: 0, total: 0)
            }
            try upload.commit(requester)
        } catch {
            upload.abandon()
            throw error
        }
    }

    func openWriter(_ call: Call, _ name: String) throws -> any BackupObjectWriter {
        S3Writer(client, name, notes: notes) { [self] in if hasLock { try client.refuseIfProtected(name, $0) } }
    }

    func get(_ call: Call, _ name: String, into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws -> Int {
        do { return try client.get(name, at: offset, into: buffer, Requester(call)) } catch let error as DriverError
            where error.code == CLINKER_NOT_FOUND
        {
            throw S3Client.notFound(name)
        }
    }

    func object(_ call: Call, _ name: String) throws -> StoredObject {
        guard let found = try client.head(name, Requester(call)) else { throw S3Client.notFound(name) }
        return try found.object(named: name)
    }

    func list(_ call: Call, prefix: String, after: String, _ each: (StoredObject) -> Bool) throws {
        try client.list(prefix: prefix, after: after, Requester(call), each)
    }

    func remove(_ call: Call, _ names: [String]) throws {
        let requester = Requester(call)
        var first: (any Error)?
        var free = names
        if hasLock {
            free = names.filter { name in
                do { try client.refuseIfProtected(name, requester) } catch {
                    first = first ?? error
                    return false
                }
                return true
            }
        }
        do { try client.remove(free, requester) } catch { first = first ?? error }
        if let first { throw first }
    }

    func protect(_ call: Call, _ name: String, until: Int64) throws {
        guard hasLock else { throw DriverError(CLINKER_UNSUPPORTED, "the bucket \(client.options.bucket) has no Object Lock") }
        try client.protect(name, until: until, Requester(call))
    }
}

extension S3Client {
    fileprivate func makeBucket(_ requester: Requester) throws {
        let isStandard = options.region == "us-east-1"
        let body = Array(
            (isStandard
                ? ""
                : "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LocationConstraint>\(XMLElement.escaped(options.region))</LocationConstraint></CreateBucketConfiguration>")
                .utf8)
        try body.withUnsafeBytes { bytes in
            var request = Request("PUT")
            request.body = [bytes]
            do { _ = try send(request, for: requester) } catch let failure as S3Failure {
                // Another instance was quicker.
                guard failure.code == "BucketAlreadyOwnedByYou" else {
                    throw DriverError(
                        failure.trouble.isTemporary ? CLINKER_RETRY : CLINKER_BAD_CONFIGURATION,
                        "the bucket \(options.bucket) cannot be made: \(failure.trouble.error.message)")
                }
            }
        }
    }
}

nonisolated(unsafe) private let table = makeStoreTable(
    name: "s3", version: "1.0.0", vendor: "Clinker", offering: [.writers, .protect], options: S3Options.declarations
) {
    openStore($0, $1) { try S3Store($0) }
}

/// The plugin's exported symbol.
@c(clinker_store_v1)
public func s3Store() -> UnsafePointer<clinker_store>? { table }
