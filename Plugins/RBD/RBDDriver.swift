import CDriver
import CRBD
import DriverKit
import Glibc
import JSON

/// Volumes as images of a Ceph pool, through librbd and librados. Clones share their parent's objects. The names are Cinder's, so that a pool
/// can be taken over in either direction.
final class RBDDriver: VolumeDriver {
    private let cluster: Cluster
    private let client: RegisteredClient?
    private let poolName: String
    private let maxCloneDepth: Int
    private let flattensVolumesFromSnapshots: Bool
    private let objectOrder: UInt64
    private let secretUUID: String?
    private let keyring: String?
    private let hasDynamicTotal: Bool
    private let flattening: FlattenLimit
    private let deletion: Deletion
    private let mirroring: Mirroring

    init(_ call: Call) throws {
        var settings = Cluster.Settings()
        settings.user = try call.given(RBDOptions.user)
        settings.clusterName = try call[RBDOptions.clusterName]
        settings.configurationFile = try call.given(RBDOptions.configurationFile)
        settings.pool = try call[RBDOptions.pool]
        let timeout = try call[RBDOptions.connectTimeout]
        if timeout > 0 { settings.timeout = timeout }
        maxCloneDepth = try call[RBDOptions.maxCloneDepth]
        flattensVolumesFromSnapshots = try call[RBDOptions.flattensVolumesFromSnapshots]
        objectOrder = UInt64(20 + (try call[RBDOptions.storeChunkSize]).trailingZeroBitCount)
        secretUUID = try call.given(RBDOptions.secretUUID)
        hasDynamicTotal = try call[RBDOptions.hasDynamicTotal]
        poolName = call.option("volume_backend_name") ?? call.option("backend") ?? "RBD"
        flattening = FlattenLimit(try call[RBDOptions.concurrentFlattens])
        let delay = try call[RBDOptions.defersDeletion] ? try call[RBDOptions.deletionDelay] : nil
        let interval = try call[RBDOptions.purgeInterval]
        keyring = try call.file(RBDOptions.keyring)
        cluster = try Cluster(settings)
        mirroring = try Mirroring(call, cluster)
        let names = VolumeNames(template: call.option("volume_name_template") ?? "volume-%s")
        deletion = Deletion(cluster, delay: delay, interval: interval, names: names, flattening: flattening)
        // Fence dead processes of this machine: their watches would keep images open for half a minute.
        if let state = call.option("state_dir") {
            client = try RegisteredClient(directory: state + "/clients", former: state + "/../../rbd", cluster: cluster, call)
        } else {
            client = nil
        }
    }

    func capabilities(_ call: Call) throws {
        call.set("storage_protocol", "ceph")
        call.set("thin_provisioning_support", true)
        call.set("thick_provisioning_support", false)
        call.set("multiattach", true)
        call.set("online_extend_support", true)
        call.set("sparse_copy_volume", true)
        call.set("shared_targets", false)
        mirroring.describe(call)
        let settings = cluster.settings
        call.set(
            "location_info",
            "\(settings.clusterName):\(settings.configurationFile ?? ""):\(try cluster.fsid):\(settings.user ?? ""):\(settings.pool)")
        call.set("holder", try cluster.addresses)
    }

    /// Capacity of the pool as reported by the monitors, quotas included.
    func stats(_ call: Call) throws {
        deletion.startMaintenance()
        let answer = try cluster.command(("prefix", "df"))
        let name = cluster.settings.pool
        // The manager reports a new pool after some seconds; until then the capacity is unknown.
        guard let pool = answer["pools"]?.array?.first(where: { $0["name"]?.string == name })?["stats"] else {
            return call.list("pools") {
                call.object(nil) {
                    call.set("name", poolName)
                    call.set("total_capacity_gb", -1.0)
                    call.set("free_capacity_gb", -1.0)
                }
            }
        }
        let quota = try cluster.command(("prefix", "osd pool get-quota"), ("pool", name))
        func bytes(_ value: JSON?) -> Double {
            switch value {
            case .integer(let number)?: Double(number)
            case .real(let number)?: number
            default: 0
            }
        }
        let used = bytes(pool["stored"] ?? pool["bytes_used"])
        var free = bytes(pool["max_avail"])
        let limit = bytes(quota["quota_max_bytes"])
        if limit > 0 { free = min(free, max(0, limit - used)) }
        let total = hasDynamicTotal || limit == 0 ? free + used : limit
        call.list("pools") {
            call.object(nil) {
                call.set("name", poolName)
                call.set("total_capacity_gb", total / 1_073_741_824)
                call.set("free_capacity_gb", free / 1_073_741_824)
            }
        }
    }

    // MARK: volumes

    func createVolume(_ call: Call) throws {
        try create(call)
        try mirroring.begin(call)
    }

    private func create(_ call: Call) throws {
        let name = try name(call, "volume.name")
        let size = try call.gibibytes("volume.size")
        for _ in 0..<2 {
            let result = try withOptions { rbd_create4(cluster.pool, name, size, $0) }
            guard result == -EEXIST else { return try Cluster.check(result, "cannot create image \(name)") }
            if let image = try Image.find(cluster, name, writable: false) {
                let found = try image.size
                guard found == size, try image.parent == nil else {
                    throw DriverError(CLINKER_EXISTS, "the image \(name) exists already, with \(found) bytes instead of \(size)")
                }
                return
            }
            // The name exists without an image: the remains of an interrupted creation.
            try deletion.remove(name, call)
        }
        throw DriverError(CLINKER_RETRY, "the image \(name) is made by somebody else at the same time")
    }

    func deleteVolume(_ call: Call) throws { try deletion.delete(try name(call, "volume.name"), call) }

    func extendVolume(_ call: Call) throws {
        try Image(cluster, name(call, "volume.name"), writable: true).grow(to: call.gibibytes("new_size"))
    }

    func cloneVolume(_ call: Call) throws {
        try clone(call)
        try mirroring.begin(call)
    }

    private func clone(_ call: Call) throws {
        let (source, target) = (try name(call, "source.name"), try name(call, "volume.name"))
        let size = try call.gibibytes("volume.size")
        let snapshot = target + Names.cloneSnapshotSuffix
        let origin = try Image(cluster, source, writable: true)
        if maxCloneDepth == 0 { return try copy(origin, to: target, size: size, call) }
        // A complete clone exists; its snapshot of the source must not be taken again.
        if try !origin.hasSnapshot(snapshot), let made = try Image.find(cluster, target, writable: false), try made.isWhole {
            return try growIfSmaller(target, to: size)
        }
        // Remains of an interrupted clone are removed with their snapshot, here or by maintenance.
        for attempt in 1...3 {
            do {
                try origin.makeSnapshot(snapshot)
                try clone(source, snapshot, of: origin.size, to: target, size: size, call)
                break
            } catch {
                try? origin.removeSnapshot(snapshot)
                guard let failure = error as? DriverError, failure.code == CLINKER_NOT_FOUND, attempt < 3 else { throw error }
            }
        }
        guard try Names.cloneDepth(of: origin, atMost: maxCloneDepth) >= maxCloneDepth else { return }
        try flattening.enter(call) { try Image(cluster, target, writable: true).flatten(call, isNew: true) }
        do { try origin.removeSnapshot(snapshot) } catch let error as DriverError where error.code == CLINKER_BUSY {}
    }

    func createVolumeFromSnapshot(_ call: Call) throws {
        let (source, snapshot) = (try name(call, "source.name"), try name(call, "snapshot.name"))
        let target = try name(call, "volume.name")
        try clone(
            source, snapshot, of: call.integer("snapshot.size").map { UInt64($0) << 30 }, to: target, size: call.gibibytes("volume.size"),
            call
        )
        if flattensVolumesFromSnapshots {
            try flattening.enter(call) { try Image(cluster, target, writable: true).flatten(call, isNew: true) }
        }
        try mirroring.begin(call)
    }

    /// Clones, or continues with a complete existing clone, and resizes it.
    ///
    /// - Parameter parentSize: nil if unknown.
    private func clone(
        _ source: String, _ snapshot: String, of parentSize: UInt64?, to target: String, size: UInt64, _ call: Call
    ) throws {
        var isNew = true
        do { try clone(source, snapshot, to: target) } catch let error as DriverError where error.code == CLINKER_EXISTS {
            let existing = try Image.find(cluster, target, writable: false)
            isNew = try existing.map { try !$0.isWhole } ?? true
            existing?.close()
            if isNew {
                // Remains of a crash: a name without an image, or an incomplete clone.
                try deletion.remove(target, call)
                try clone(source, snapshot, to: target)
            }
        }
        if !isNew || parentSize != size { try growIfSmaller(target, to: size) }
    }

    private func growIfSmaller(_ target: String, to size: UInt64) throws {
        let image = try Image(cluster, target, writable: false)
        guard try image.size < size else { return }
        image.close()
        try Image(cluster, target, writable: true).grow(to: size)
    }

    private func clone(_ source: String, _ snapshot: String, to target: String) throws {
        let result = try withOptions { rbd_clone3(cluster.pool, source, snapshot, cluster.pool, target, $0) }
        try Cluster.check(result, "cannot clone \(source)@\(snapshot) to \(target)")
    }

    /// A full copy has a temporary name until it is complete.
    private func copy(_ origin: Image, to target: String, size: UInt64, _ call: Call) throws {
        if try Image.find(cluster, target, writable: false) == nil {
            let partial = target + Names.partialSuffix
            try deletion.remove(partial, call)
            let result = try withOptions { options in
                Progress.report(call) { rbd_copy_with_progress3(origin.handle, cluster.pool, partial, options, $0, $1) }
            }
            try Cluster.check(result, "cannot copy \(origin.name) to \(partial)")
            try Cluster.check(rbd_rename(cluster.pool, partial, target), "cannot rename \(partial)")
        }
        try Image(cluster, target, writable: true).grow(to: size)
    }

    private func withOptions(_ body: (rbd_image_options_t) -> Int32) throws -> Int32 {
        var created: rbd_image_options_t?
        rbd_image_options_create(&created)
        guard let options = created else { throw DriverError(CLINKER_RETRY, "librbd gave no options") }
        defer { rbd_image_options_destroy(options) }
        rbd_image_options_set_uint64(options, Int32(RBD_IMAGE_OPTION_ORDER), objectOrder)
        return body(options)
    }

    // MARK: snapshots

    func createSnapshot(_ call: Call) throws {
        try Image(cluster, name(call, "volume.name"), writable: true).makeSnapshot(name(call, "snapshot.name"))
    }

    /// Flattens the snapshot's clones first, so that it never has to wait for them.
    func deleteSnapshot(_ call: Call) throws {
        let snapshot = try name(call, "snapshot.name")
        guard let image = try Image.find(cluster, name(call, "volume.name"), writable: true) else { return }
        do { try image.removeSnapshot(snapshot) } catch let error as DriverError where error.code == CLINKER_BUSY {
            do { try deletion.flattenChildren(of: image, snapshot, call) } catch let error as DriverError
                where error.code == CLINKER_NO_SPACE
            {
                // Nothing has changed: it can be deleted when there is space to flatten its clones, or when they are gone.
                throw DriverError(
                    CLINKER_BUSY, "\(image.name)@\(snapshot) has clones, which have no room to do without it: \(error.message)")
            }
            try image.removeSnapshot(snapshot)
        }
    }

    func revertToSnapshot(_ call: Call) throws {
        let (volume, snapshot) = (try name(call, "volume.name"), try name(call, "snapshot.name"))
        let image = try Image(cluster, volume, writable: true)
        let result = Progress.report(call) { rbd_snap_rollback_with_progress(image.handle, snapshot, $0, $1) }
        try Cluster.check(result, "cannot roll \(volume) back to \(snapshot)")
        // Reverting to a snapshot from before an extension also restores its smaller size.
        try image.grow(to: call.gibibytes("volume.size"))
    }

    // MARK: attaching

    // Clients access the cluster themselves; there is nothing to export.
    func disconnectVolume(_ call: Call) throws {}

    func connectVolume(_ call: Call) throws {
        let volume = try name(call, "volume.name")
        try Image(cluster, volume, writable: false).close()
        let settings = cluster.settings
        let monitors = try cluster.command(("prefix", "mon dump"))["mons"]?.array ?? []
        // "192.0.2.1:6789/0" and "[2001:db8::1]:6789/0"
        let addresses = monitors.compactMap { $0["addr"]?.string }.map { $0.prefix { $0 != "/" } }
        let fsid = try cluster.fsid
        call.set("driver_volume_type", "rbd")
        call.object("data") {
            call.set("name", "\(settings.pool)/\(volume)")
            call.list("hosts") {
                for address in addresses { call.set(nil, String(address.prefix(upTo: address.lastIndex(of: ":") ?? address.endIndex))) }
            }
            call.list("ports") { for address in addresses { call.set(nil, String(address.split(separator: ":").last ?? "")) } }
            call.set("cluster_name", settings.clusterName)
            call.set("auth_enabled", settings.user != nil)
            if let user = settings.user { call.set("auth_username", user) } else { call.setNull("auth_username") }
            call.set("secret_type", "ceph")
            call.set("secret_uuid", secretUUID ?? fsid)
            call.set("volume_id", call.string("volume.id") ?? "")
            call.set("discard", true)
            if let keyring { call.set("keyring", secret: keyring) }
        }
    }

    func fence(_ call: Call) throws { try cluster.fence(call.required("holder")) }

    // MARK: manage

    func listVolumes(_ call: Call) throws {
        defer { cluster.closer.closeAll() }
        let names = try Names.images(of: cluster)
        try call.list("volumes") {
            for (index, name) in names.enumerated() {
                if index % 64 == 0 { call.progress(done: UInt64(index), total: UInt64(names.count)) }
                // It may have been removed in the meantime.
                guard let image = try Image.find(cluster, name, writable: false) else { continue }
                let snapshots = try image.snapshots.map(\.name)
                // Deleted volumes that clones still need are internal to this driver.
                if name.hasSuffix(Names.deletedSuffix), !snapshots.isEmpty { continue }
                let (bytes, isWatched) = (try image.size, try image.isWatched)
                call.object(nil) {
                    call.set("name", name)
                    call.set("bytes", Int64(bytes))
                    call.set("size", Int64((bytes + 1_073_741_823) >> 30))
                    if isWatched { call.set("unsafe", "a client has it open") }
                    call.list("snapshots") {
                        for snapshot in snapshots where !snapshot.hasSuffix(Names.cloneSnapshotSuffix) {
                            call.object(nil) { call.set("name", snapshot) }
                        }
                    }
                }
            }
        }
    }

    func manageVolume(_ call: Call) throws {
        let (reference, target) = (try self.reference(call), try name(call, "volume.name"))
        // A client that has it open would not notice the rename, nor a second writer.
        if let found = try Image.find(cluster, reference, writable: false) {
            defer { found.close() }
            if try found.isWatched { throw DriverError(CLINKER_BUSY, "a client has the image \(reference) open") }
        }
        try rename(reference, as: target)
        let image = try Image(cluster, target, writable: true)
        // Volumes are whole GiB; the added bytes read as zeroes.
        let size = max(1, (try image.size + 1_073_741_823) >> 30)
        try image.grow(to: size << 30)
        image.close()
        try mirroring.begin(call)
        call.set("size", Int64(size))
    }

    func renameVolume(_ call: Call) throws {
        let target = try name(call, "volume.name")
        try rename(name(call, "source.name"), as: target)
        try Image(cluster, target, writable: false).close()
    }

    private func rename(_ old: String, as target: String) throws {
        guard old != target else { return }
        // The old name is gone: an earlier attempt has renamed it.
        _ = try cluster.rename(old, to: target)
    }

    func manageSnapshot(_ call: Call) throws {
        let (reference, target) = (try self.reference(call), try name(call, "snapshot.name"))
        let image = try Image(cluster, name(call, "volume.name"), writable: true)
        if reference != target {
            let result = rbd_snap_rename(image.handle, reference, target)
            if result != -ENOENT { try Cluster.check(result, "cannot rename the snapshot \(reference) to \(target)") }
        }
        guard let found = try image.snapshots.first(where: { $0.name == target }) else {
            throw DriverError(CLINKER_NOT_FOUND, "\(image.name) has no snapshot \(reference)")
        }
        try image.makeSnapshot(target)
        call.set("size", Int64((found.size + 1_073_741_823) >> 30))
    }

    // An unmanaged object stays as it is.
    func unmanageVolume(_ call: Call) throws {}
    func unmanageSnapshot(_ call: Call) throws {}

    func openHandle(_ call: Call, writable: Bool) throws -> any BlockHandle {
        let image = try Image(cluster, name(call, "volume.name"), writable: writable, snapshot: call.string("snapshot.name"))
        return ImageHandle(image)
    }

    // MARK: arguments

    private func reference(_ call: Call) throws -> String {
        try name(call, call.referenceArgument)
    }

    /// Checks a name: '/' and '@' would lead to another pool, namespace or snapshot.
    private func name(_ call: Call, _ argument: String) throws -> String {
        let name = try call.required(argument)
        guard !name.isEmpty, name.utf8.count <= 200, !name.utf8.contains(where: { $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "@") })
        else {
            throw DriverError(CLINKER_INVALID, "'\(name)' cannot be the name of an image or snapshot")
        }
        return name
    }
}

nonisolated(unsafe) private let table = makeDriverTable(
    name: "rbd", version: "1.0.0", vendor: "Clinker", threads: .parallel, offering: .all.subtracting(.export),
    options: RBDOptions.all
) {
    openDriver($0, $1) { try RBDDriver($0) }
}

/// The plugin's exported symbol.
@c(clinker_driver_v1)
public func rbdDriver() -> UnsafePointer<clinker_driver>? { table }
