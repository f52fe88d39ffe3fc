public import Database
import JSON
import Primitives

/// The image cache of one backend: volumes of the service's own project, each with an image, that volumes of the image are cloned from.
public struct ImageCache: Sendable {
    /// Whose the volumes are.
    public struct Tenant: Sendable {
        public let projectID, userID: String
        public init(projectID: String, userID: String) {
            self.projectID = projectID
            self.userID = userID
        }
    }

    /// How much a backend's cache may hold; 0: as much as comes.
    public struct Limits: Sendable {
        public let gigabytes, count: Int
        public init(gigabytes: Int, count: Int) {
            self.gigabytes = gigabytes
            self.count = count
        }
    }

    /// What a volume of an image is to do.
    public enum Use: Sendable, Equatable {
        /// Be cloned from this volume, which nobody deletes or changes as long as the operation lasts.
        case clone(String)
        /// Wait for an operation that writes the image to this volume, and ask again.
        case wait(String)
        /// Read the image itself.
        case read
    }

    /// What may be done for an image that is not cached.
    public enum Filling: Sendable {
        case nothing
        /// Nothing either, as the internal project's quota does not allow it.
        case refused
        case fill
    }

    /// `node@backend`
    public let host: String
    private let tenant: Tenant
    private let limits: Limits
    private let quotas: Quotas.Defaults

    public init(_ host: String, of tenant: Tenant, limits: Limits, quotas: Quotas.Defaults) {
        self.host = host
        self.tenant = tenant
        self.limits = limits
        self.quotas = quotas
    }

    /// Finds what the operation's new volume, which is placed already, is made of. What the cache has no volume of, or one that is out of date, is
    /// written to one by an operation of its own, where `filling` and the limits allow it. Throws where the internal project's quota does not.
    public func use(
        _ image: KeptImage, for volume: Volume, by operation: Operation, filling: Filling, in tx: any Transaction
    ) throws -> Use {
        guard let pool = volume.host, let updatedAt = image.updatedAt, !volume.isOfEncryptedType else { return .read }
        let entry = try ImageCacheEntries.of(image.id, on: host, in: tx)
        let size = min(image.gibibytes ?? volume.size, volume.size)
        var old: ImageCacheEntry?
        if let entry {
            switch try state(of: entry, asOf: updatedAt, in: tx) {
            case .usable(let cached):
                // A volume is never smaller than what it is cloned from.
                guard cached.size <= volume.size else { return .read }
                guard let locked = try Volumes.lock(cached.id, in: tx), try Operations.share(locked, by: operation, in: tx) else {
                    return .read
                }
                try ImageCacheEntries.touch(locked, in: tx)
                try note("hit", image.id, operation, in: tx)
                return .clone(cached.id)
            case .filling(let cached): return cached.size <= volume.size ? .wait(cached.id) : .read
            case .outdated: old = entry
            case .lost:
                try ImageCacheEntries.remove(entry.volumeID, in: tx)
            }
        }
        guard filling != .nothing else { return .read }
        try note("miss", image.id, operation, in: tx)
        guard filling == .fill, let victims = try victims(for: size, besides: old, in: tx),
            let evicted = try evict(victims + (old.map { [$0] } ?? []), operation, in: tx)
        else { return .read }
        return .wait(try fill(image, updatedAt: updatedAt, size: size, like: volume, at: pool, inPlaceOf: evicted, operation, in: tx))
    }

    // MARK: what there is

    private enum State {
        case usable(Volume)
        case filling(Volume)
        case outdated
        /// The volume is not what it was.
        case lost
    }

    private func state(of entry: ImageCacheEntry, asOf updatedAt: String, in tx: any Transaction) throws -> State {
        guard let volume = try Volumes.find(entry.volumeID, in: tx), volume.projectID == tenant.projectID,
            volume.backend ?? host == host, volume.encryptionKeyID == nil
        else { return .lost }
        let isUnderWay = try [.creating, .downloading].contains(volume.status) && Operations.isClaimed(volume.id, in: tx)
        // Times of the Image service have one form: they are compared as they stand there.
        guard !entry.imageUpdatedAt.utf8.lexicographicallyPrecedes(updatedAt.utf8) else {
            return isUnderWay || volume.status == .available ? .outdated : .lost
        }
        if isUnderWay { return .filling(volume) }
        guard volume.status == .available, try !HostConnections.isConnected(volume.id, in: tx) else { return .lost }
        return .usable(volume)
    }

    // MARK: room

    /// The entries that are given up so that another of the size has room, the longest unused first; nil: it has none. `old` goes anyway.
    private func victims(for size: Int, besides old: ImageCacheEntry?, in tx: any Transaction) throws -> [ImageCacheEntry]? {
        guard limits.gigabytes > 0 || limits.count > 0 else { return [] }
        let entries = try ImageCacheEntries.ofBackend(host, in: tx).filter { $0.volumeID != old?.volumeID }
        var (count, total) = (entries.count + 1, entries.reduce(size) { $0 + $1.size })
        func isOver() -> Bool { (limits.count > 0 && count > limits.count) || (limits.gigabytes > 0 && total > limits.gigabytes) }
        var victims: [ImageCacheEntry] = []
        for entry in entries where isOver() {
            // What is being filled, or cloned from, stays.
            guard try !Operations.isClaimed(entry.volumeID, in: tx) else { continue }
            victims.append(entry)
            count -= 1
            total -= entry.size
        }
        return isOver() ? nil : victims
    }

    /// Deletes the entries with their volumes, by operations of their own; nil if one of them has to stay. From now on the internal project is
    /// charged for them no more: another one takes their place, however long their deletion lasts.
    ///
    /// - Returns: what the caller gives back of the charges.
    private func evict(
        _ entries: [ImageCacheEntry], _ operation: Operation, in tx: any Transaction
    ) throws -> [(charge: Charge, type: String)]? {
        // A volume that is not the cache's any more stays with whoever has it now.
        let volumes = try entries.map(\.volumeID).sorted().compactMap { try Volumes.lock($0, in: tx) }
            .filter { $0.projectID == tenant.projectID }
        let caller = caller(operation)
        guard try volumes.allSatisfy({ try !Operations.isClaimed($0.id, in: tx) }) else { return nil }
        var charges: [(charge: Charge, type: String)] = []
        for volume in volumes {
            // One that cannot be deleted, as with snapshots, is the cache's no longer.
            guard try Volumes.perform(.delete, on: volume, in: tx) else { continue }
            try tx.update(Volumes.table, Volumes.table.id(volume.id), set: Volumes.table.consumesQuota(false))
            charges.append((volume.value.charge, volume.typeName))
            _ = try Operations.create(
                DeleteVolumeArguments(), resourceType: "volume", resourceID: volume.id, projectID: tenant.projectID, caller: caller,
                claims: [.exclusive(volume)], in: tx)
        }
        for entry in entries {
            try ImageCacheEntries.remove(entry.volumeID, in: tx)
            try note("evict", entry.imageID, operation, in: tx)
        }
        return charges
    }

    // MARK: filling

    private func fill(
        _ image: KeptImage, updatedAt: String, size: Int, like volume: Volume, at pool: String,
        inPlaceOf evicted: [(charge: Charge, type: String)], _ operation: Operation, in tx: any Transaction
    ) throws -> String {
        let id = UUID.random()
        let t = Volumes.table
        try tx.insert(
            into: t, t.id(id), t.projectID(tenant.projectID), t.userID(tenant.userID), t.name("image-\(image.id)"), t.size(size),
            t.status(.creating), t.attachStatus(.detached), t.availabilityZone(volume.availabilityZone),
            t.volumeTypeID(volume.volumeTypeID), t.bootable(false), t.multiattach(volume.multiattach), t.sharedTargets(true),
            t.consumesQuota(true), t.metadata("{}"), t.adminMetadata(JSON.object(["readonly": "True"]).text), t.imageMetadata("{}"),
            t.createdAt(tx.now))
        try ImageCacheEntries.add(id, on: host, image.id, updatedAt: updatedAt, size: size, in: tx)
        _ = try Operations.create(
            CacheImageArguments(image, at: pool), resourceType: "volume", resourceID: id, projectID: tenant.projectID,
            caller: caller(operation), claims: [.exclusive(new: id)], in: tx)
        try Quotas.charge(
            Charge(volumes: 1, gigabytes: size), type: volume.typeName, totalSize: size, replacing: evicted, project: tenant.projectID,
            defaults: quotas, in: tx)
        return id
    }

    private func caller(_ operation: Operation) -> Caller {
        Caller(userID: tenant.userID, projectID: tenant.projectID, isAdmin: true, requestID: operation.requestID)
    }

    private func note(_ action: String, _ image: String, _ operation: Operation, in tx: any Transaction) throws {
        try NotificationOutbox.noteImageCache(action, image: image, host: host, by: operation, in: tx)
    }
}

extension KeptImage {
    /// GiB of a volume that holds it; nil: the Image service does not know.
    fileprivate var gibibytes: Int? {
        guard let bytes = virtualSize ?? (diskFormat == "raw" ? size : nil) else { return nil }
        return max(1, bytes / (1 << 30) + (bytes % (1 << 30) > 0 ? 1 : 0))
    }
}
