import CDriver
import CephClient
import CRBD
import DriverKit
import Glibc
import JSON

/// Volumes as images of a Ceph pool, through librbd and librados. Clones share their parent's objects. The names are Cinder's, so that a pool
/// can be taken over in either direction.
final class RBDDriver: VolumeDriver {
    let cluster: Cluster
    private let client: RegisteredClient?
    private let poolName: String
    let maxCloneDepth: Int
    let flattensVolumesFromSnapshots: Bool
    private let objectOrder: UInt64
    private let secretUUID: String?
    private let keyring: String?
    private let hasDynamicTotal: Bool
    let flattening: FlattenLimit
    let deletion: Deletion
    let mirroring: Mirroring
    let names: VolumeNames

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
        names = VolumeNames(template: call.option("volume_name_template") ?? "volume-%s")
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
        call.set("image_locations", "\(ImageLocation.scheme)\(try cluster.fsid)/")
        // Hosts have no device: their hypervisor decrypts.
        call.set("encryption_header", "luks")
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
        try deletion.removal.makeImage(name, size: size, call) { try withOptions { rbd_create4(cluster.pool, name, size, $0) } }
    }

    func deleteVolume(_ call: Call) throws { try deletion.delete(try name(call, "volume.name"), call) }

    func extendVolume(_ call: Call) throws {
        try Image(cluster, name(call, "volume.name"), writable: true).grow(to: call.gibibytes("new_size"))
    }

    func withOptions(_ body: (rbd_image_options_t) -> Int32) throws -> Int32 {
        var created: rbd_image_options_t?
        rbd_image_options_create(&created)
        guard let options = created else { throw DriverError(CLINKER_RETRY, "librbd gave no options") }
        defer { rbd_image_options_destroy(options) }
        rbd_image_options_set_uint64(options, Int32(RBD_IMAGE_OPTION_ORDER), objectOrder)
        // A clone would have its parent's stripes otherwise, which smaller objects do not hold.
        rbd_image_options_set_uint64(options, Int32(RBD_IMAGE_OPTION_STRIPE_UNIT), 1 << objectOrder)
        rbd_image_options_set_uint64(options, Int32(RBD_IMAGE_OPTION_STRIPE_COUNT), 1)
        return body(options)
    }

    // MARK: snapshots

    func createSnapshot(_ call: Call) throws {
        let snapshot = try name(call, "snapshot.name")
        // Cinder removes those of its backups without lifting a protection first.
        try Image(cluster, name(call, "volume.name"), writable: true).makeSnapshot(snapshot, isProtected: !Names.isOfBackup(snapshot))
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

    func openHandle(_ call: Call, writable: Bool) throws -> any BlockHandle {
        let image = try Image(cluster, name(call, "volume.name"), writable: writable, snapshot: call.string("snapshot.name"))
        return ImageHandle(image)
    }

    // MARK: arguments

    /// Checks a name: '/' and '@' would lead to another pool, namespace or snapshot.
    func name(_ call: Call, _ argument: String) throws -> String { try Image.checkedName(call.required(argument)) }
}

nonisolated(unsafe) private let table = makeDriverTable(
    name: "rbd", version: "1.0.0", vendor: "Clinker", threads: .parallel, offering: .all.subtracting(.export).union(.images),
    options: RBDOptions.all
) {
    openDriver($0, $1) { try RBDDriver($0) }
}

/// The plugin's exported symbol.
@c(clinker_driver_v1)
public func rbdDriver() -> UnsafePointer<clinker_driver>? { table }
