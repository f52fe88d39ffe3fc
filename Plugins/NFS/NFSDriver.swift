import CDriver
import DiskImages
import DriverKit
import Glibc
import JSON
import NFSClient

/// Volumes as files of NFS shares, through libnfs: nothing is mounted, and no privileges are needed but those of the shares. Files and names
/// are Cinder's.
final class NFSDriver: VolumeDriver {
    let shares: [Share]
    private let poolName: String
    private let mountPointBase: String
    private let probe: String
    let newFormat: Chain.Format
    let isSparse: Bool
    private let hasSnapshots: Bool
    let reservedPercentage: Int
    let overSubscription: Double

    init(_ call: Call) throws {
        poolName = call.option("volume_backend_name") ?? call.option("backend") ?? "Generic_NFS"
        mountPointBase = try call[NFSOptions.mountPointBase]
        newFormat = try call[NFSOptions.makesQcow2] ? .qcow2 : .raw
        isSparse = try call[NFSOptions.isSparse]
        hasSnapshots = try call[NFSOptions.hasSnapshots]
        reservedPercentage = try call.option("reserved_percentage", default: 0, in: 0...100)
        let ratio = call.option("max_over_subscription_ratio") ?? "20.0"
        overSubscription = Double(ratio == "auto" ? "20.0" : ratio) ?? 20
        let access = try FileAccess(call[NFSOptions.permissions])
        try Self.tellUnserved(call)
        let list = try ShareList(call)
        for problem in list.problems { call.log(CLINKER_WARNING, "\(problem.message): the line is left out") }
        shares = list.addresses.map { Share($0, access) }
        probe = Self.probeName(backend: call.option("backend") ?? "nfs")
        try checkShares(call, attempts: call[NFSOptions.mountAttempts])
    }

    /// The file by which a share is tried. One name for each backend of a machine: what a process left that died meanwhile, the next removes.
    private static func probeName(backend: String) -> String {
        var bytes = [CChar](repeating: 0, count: 256)
        let machine =
            gethostname(&bytes, bytes.count - 1) == 0
            ? String(decoding: bytes.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self) : ""
        let words = ".clinker-\(machine)-\(backend)".utf8.map { $0 == UInt8(ascii: "/") ? UInt8(ascii: "-") : $0 }
        return String(decoding: words.prefix(200), as: UTF8.self)
    }

    /// Logs options of Cinder's driver that have no effect here.
    private static func tellUnserved(_ call: Call) throws {
        if try call[NFSOptions.operations].lowercased() == "false" {
            call.log(CLINKER_WARNING, "nas_secure_file_operations = false is not served: files are made as the service's user")
        }
    }

    /// One working share is enough; the problems of the others are reported.
    private func checkShares(_ call: Call, attempts: Int) throws {
        var problems: [DriverError] = []
        for share in shares {
            do { try check(share, attempts: attempts) } catch let error as DriverError {
                call.log(CLINKER_WARNING, error.message)
                problems.append(error)
            }
        }
        if problems.count == shares.count, let first = problems.first { throw first }
    }

    private func check(_ share: Share, attempts: Int) throws {
        for attempt in 1... {
            let begun = Share.now()
            do {
                return try share.with(isOpening: true) { session in
                    do {
                        try session.create(probe).close()
                        try session.remove(probe)
                    } catch let error as DriverError where error.code == CLINKER_ERROR {
                        let refusal = DriverError(
                            CLINKER_BAD_CONFIGURATION, "\(share.address.text) cannot be written to: \(error.message)")
                        share.refusal = refusal
                        throw refusal
                    } catch let error as DriverError where [CLINKER_NO_SPACE, CLINKER_EXISTS, CLINKER_NOT_FOUND].contains(error.code) {
                        // Full, or another instance of the backend tries it at this moment.
                    }
                }
            } catch let error as DriverError {
                // A share that did not answer is not asked again.
                guard error.code == CLINKER_RETRY, attempt < attempts, Share.now() - begun < 1 else { throw error }
                sleep(1)
            }
        }
    }

    func capabilities(_ call: Call) {
        call.set("storage_protocol", "nfs")
        call.set("thin_provisioning_support", isSparse || newFormat == .qcow2)
        call.set("thick_provisioning_support", !isSparse)
        call.set("multiattach", false)
        call.set("online_extend_support", false)
        call.set("sparse_copy_volume", true)
        call.set("shared_targets", false)
        // Hosts have no device: their hypervisor decrypts.
        call.set("encryption_header", "luks")
    }

    func stats(_ call: Call) throws {
        var (total, free, provisioned) = (UInt64(0), UInt64(0), UInt64(0))
        try onEach(call) { session in
            let (capacity, promised) = (try session.capacity(), try Self.provisioned(try session.entries()))
            total += capacity.total
            free += capacity.free
            provisioned += promised
        }
        call.list("pools") {
            call.object(nil) {
                call.set("name", poolName)
                call.set("total_capacity_gb", Double(total) / 1_073_741_824)
                call.set("free_capacity_gb", Double(free) / 1_073_741_824)
                call.set("provisioned_capacity_gb", Double(provisioned) / 1_073_741_824)
            }
        }
    }

    // MARK: volumes

    func createVolume(_ call: Call) throws {
        let (name, size) = (try name(call, "volume.name"), try call.gibibytes("volume.size"))
        // If a crash left one on a share that does not answer, it is empty, and can be created elsewhere.
        if let found = look(for: name, among: shares).share {
            // Created before a crash, and complete, since it has its final name.
            let (format, virtual) = try found.with { session in
                let format = try self.format(call, session, name)
                let layer = try Chain(session, volume: name, format: format).open(name, writable: false)
                defer { layer.close() }
                return (format, try layer.size)
            }
            guard virtual == size else {
                throw DriverError(CLINKER_EXISTS, "\(found.address.text)/\(name) exists already, with \(virtual) bytes instead of \(size)")
            }
            return setData(call, found, format)
        }
        // What a hypervisor decrypts as a whole is a raw file: encryption of a qcow2 file is another one, inside of it.
        let format = isEncrypted(call) ? .raw : newFormat
        let share = try choose(size, format)
        try share.with { session in
            let partial = name + ".partial"
            let file = try session.create(partial)
            do {
                defer { file.close() }
                switch format {
                case .qcow2: try Qcow2.create(in: file, size: size, backing: nil)
                case .raw where isSparse: try file.truncate(to: size)
                case .raw: try allocate(file, size, call)
                }
                try file.flush()
            } catch {
                try? session.remove(partial)
                throw error
            }
            try session.rename(partial, to: name)
        }
        setData(call, share, format)
    }

    private func allocate(_ file: NFSFile, _ size: UInt64, _ call: Call) throws {
        let zeroes = [UInt8](repeating: 0, count: 4 << 20)
        var position: UInt64 = 0
        while position < size {
            if call.isCancelled { throw DriverError(CLINKER_CANCELLED, "cancelled") }
            try zeroes.withUnsafeBytes { try file.write($0, at: position) }
            position += UInt64(zeroes.count)
            call.progress(done: position, total: size)
        }
    }

    func deleteVolume(_ call: Call) throws {
        let name = try name(call, "volume.name")
        let noted = data(call)?["share"]?.string
        let own = shares.first { $0.address.text == noted }
        let isEncrypted = isEncrypted(call)
        if let own, try own.with({ try remove(name, $0, isEncrypted) }) { return }
        // It may have been migrated there.
        var failure: DriverError?
        var isFound = false
        for share in shares where share !== own {
            do { if try share.with({ try remove(name, $0, isEncrypted) }) { isFound = true } } catch let error as DriverError
                where error.code == CLINKER_RETRY
            { failure = error }
        }
        guard own == nil, !isFound else { return }
        if let failure { throw failure }
        if let noted { throw DriverError(CLINKER_ERROR, "\(name) lies on \(noted), which is none of the backend's shares") }
    }

    /// - Returns: false if the share does not have the file.
    private func remove(_ name: String, _ session: Session, _ isEncrypted: Bool) throws -> Bool {
        try session.remove(name + ".partial")
        guard try session.size(of: name) != nil else { return false }
        let chain = try Chain(session, volume: name, format: .raw)
        if let snapshot = chain.overlays.first { throw DriverError(CLINKER_BUSY, "\(name) has the snapshot \(snapshot.id)") }
        if isEncrypted, let id = SnapshotCopies.ids(of: name, among: try session.entries()).first {
            throw DriverError(CLINKER_BUSY, "\(name) has the snapshot \(id)")
        }
        try session.remove(name)
        return true
    }

    func extendVolume(_ call: Call) throws {
        let wanted = try call.gibibytes("new_size")
        try withChain(call) { chain in
            let layer = try chain.open(chain.active, writable: true)
            defer { layer.close() }
            if try layer.size < wanted {
                try requireDetached(call, "extended")
                try layer.grow(to: wanted)
            }
            try layer.flush()
        }
    }

    // MARK: snapshots

    func createSnapshot(_ call: Call) throws {
        guard hasSnapshots else { throw DriverError(CLINKER_UNSUPPORTED, "nfs_snapshot_support is not true") }
        let snapshot = try snapshotID(call)
        if isEncrypted(call) {
            try requireDetached(call, "snapshotted")
            return try withCopies(call) { try $0.make(snapshot, call) }
        }
        try withChain(call) { chain in
            guard chain.overlay(of: snapshot) == nil else { return }
            try requireDetached(call, "snapshotted")
            try chain.add(snapshot)
        }
    }

    func deleteSnapshot(_ call: Call) throws {
        let snapshot = try snapshotID(call)
        guard try find(name(call, "volume.name"), call) != nil else { return }
        if isEncrypted(call) { return try withCopies(call) { try $0.remove(snapshot) } }
        try withChain(call) { chain in
            if chain.overlay(of: snapshot) != nil { try requireDetached(call, "merged with its snapshot") }
            try chain.remove(snapshot, call)
        }
    }

    func revertToSnapshot(_ call: Call) throws {
        let snapshot = try snapshotID(call)
        if isEncrypted(call) {
            try requireDetached(call, "reverted")
            let size = try call.gibibytes("volume.size")
            return try withCopies(call) { try $0.revert(to: snapshot, size: size, call) }
        }
        try withChain(call) { chain in
            try requireDetached(call, "reverted")
            try chain.revert(to: snapshot)
        }
    }

    /// Clients that have the file open would keep writing to it.
    private func requireDetached(_ call: Call, _ what: String) throws {
        guard call.boolean("volume.attached") ?? false else { return }
        throw DriverError(CLINKER_BUSY, "a volume on NFS cannot be \(what) while a host is connected to it")
    }

    // MARK: attaching

    // Clients mount the share themselves; there is nothing to export.
    func disconnectVolume(_ call: Call) throws {}

    func connectVolume(_ call: Call) throws {
        let volume = try name(call, "volume.name")
        try withChain(call) { chain in
            let layer = try chain.open(chain.active, writable: false)
            defer { layer.close() }
            // A guest that writes a qcow2 header into its raw volume must not gain access to other files.
            let (found, wanted) = (try layer.size, try call.gibibytes("volume.size"))
            guard found <= wanted else {
                throw DriverError(CLINKER_ERROR, "\(volume) shows \(found) bytes, yet the volume has \(wanted)")
            }
            let address = try share(of: volume, call).address
            call.set("driver_volume_type", "nfs")
            call.set("mount_point_base", mountPointBase)
            call.object("data") {
                call.set("export", address.text)
                call.set("name", chain.active)
                call.set("format", chain.formatName(chain.active))
                if let options = address.options { call.set("options", options.hasPrefix("-o") ? options : "-o " + options) }
            }
        }
    }

    // MARK: handles

    func openHandle(_ call: Call, writable: Bool) throws -> any BlockHandle {
        let volume = try name(call, "volume.name")
        let share = try share(of: volume, call)
        let session = try share.take()
        do {
            let isSnapshot = call.string("snapshot.name") != nil
            if isSnapshot, isEncrypted(call) {
                return ChainHandle(try copies(volume, session).open(snapshotID(call)), share, session, writable: false)
            }
            let chain = try Chain(session, volume: volume, format: format(call, session, volume))
            let layer = try isSnapshot ? chain.open(snapshot: snapshotID(call)) : chain.open(chain.active, writable: writable)
            return ChainHandle(layer, share, session, writable: writable && !isSnapshot)
        } catch {
            share.give(back: session)
            throw error
        }
    }

    // MARK: encrypted volumes

    private func isEncrypted(_ call: Call) -> Bool { call.boolean("volume.encrypted") ?? false }

    private func copies(_ volume: String, _ session: Session) -> SnapshotCopies {
        SnapshotCopies(session: session, volume: volume, isSparse: isSparse)
    }

    private func withCopies(_ call: Call, _ body: (SnapshotCopies) throws -> Void) throws {
        let volume = try name(call, "volume.name")
        try share(of: volume, call).with { try body(copies(volume, $0)) }
    }

    // MARK: arguments

    func data(_ call: Call) -> JSON? { call.string("volume.data").flatMap { try? JSON(parsing: $0) } }

    func setData(_ call: Call, _ share: Share, _ format: Chain.Format) {
        let members = [(name: "share", value: JSON.string(share.address.text)), (name: "format", value: JSON.string(format.rawValue))]
        call.set("data", JSON.object(JSONObject(members)).text)
    }

    /// The format recorded when the volume was created or managed. The record is missing only if a crash lost it, before a client could
    /// write to the volume.
    func format(_ call: Call, _ session: Session, _ volume: String) throws -> Chain.Format {
        if let noted = data(call)?["format"]?.string.flatMap({ Chain.Format(rawValue: $0) }) { return noted }
        return try Chain.Format.ofForeign(volume, session, call)
    }

    private func snapshotID(_ call: Call) throws -> String {
        let id = try call.required("snapshot.id")
        try check(id)
        return id
    }

    func name(_ call: Call, _ argument: String) throws -> String {
        let name = try call.required(argument)
        try check(name)
        return name
    }

    /// Checks a name: it must not lead out of the share, although it comes from the host.
    func check(_ name: String) throws {
        guard !name.isEmpty, !name.utf8.contains(UInt8(ascii: "/")), !name.hasPrefix("."), name.utf8.count <= 120,
            !name.hasSuffix(".info"), !name.hasSuffix(".partial")
        else { throw DriverError(CLINKER_INVALID, "'\(name)' cannot be the name of a file") }
    }
}

nonisolated(unsafe) private let table = makeDriverTable(
    name: "nfs", version: "1.0.0", vendor: "Clinker", threads: .parallel,
    offering: .all.subtracting([.clone, .volumesFromSnapshots, .export, .manageSnapshots, .fence]), options: NFSOptions.all
) {
    openDriver($0, $1) { try NFSDriver($0) }
}

/// The plugin's exported symbol.
@c(clinker_driver_v1)
public func nfsDriver() -> UnsafePointer<clinker_driver>? { table }
