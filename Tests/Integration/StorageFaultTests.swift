import Glibc
import JSON
import Primitives
import Processes
import TestSupport
import Testing

/// Ceph and NFS that are set up wrongly, full, away or tampered with; hosts that die in the middle of long work. Each has a
/// documented code and a precise message, and leaves a state that the next call repairs.
@Suite("Faults of real storage", .serialized)
struct StorageFaultTests {
    private func check(_ section: String, _ name: String = "create: the same again succeeds") async throws -> String {
        let result = try await ServiceUnderTest.run(
            ServiceUnderTest.binary, ["driver", "check"] + StorageUnderTest.arguments(section) + ["--case", name, "--timeout", "60"])
        #expect(result.status == 1, "\(result.output)")
        return result.output
    }

    @Test("a backend of rbd that cannot work says which option is wrong, and why")
    func rbdConfiguration() async throws {
        let conf = try StorageUnderTest.ceph.get().directory + "/ceph.conf"
        let away = conf + ".away"
        try ServiceUnderTest.write(away, "[global]\nmon host = [v2:127.0.0.1:9]\n")
        for (options, words) in [
            (
                "rbd_ceph_conf = \(conf)\nrbd_pool = nope\nrbd_user = cinder",
                "CLINKER_BAD_CONFIGURATION: rbd_pool: the pool nope cannot be opened"
            ),
            ("rbd_ceph_conf = \(conf)\nrbd_pool = volumes\nrbd_user = nobody", "CLINKER_BAD_CONFIGURATION: client.nobody cannot connect"),
            ("rbd_ceph_conf = /nonexistent\nrbd_pool = volumes", "CLINKER_BAD_CONFIGURATION: rbd_ceph_conf: /nonexistent cannot be read"),
            ("rbd_ceph_conf = \(away)\nrados_connect_timeout = 2\nrbd_user = cinder", "CLINKER_RETRY: client.cinder cannot connect"),
            (
                "rbd_ceph_conf = \(conf)\nrbd_store_chunk_size = 3",
                "CLINKER_BAD_CONFIGURATION: rbd_store_chunk_size must be one of 1, 2, 4, 8, 16, 32, not '3'"
            ),
            (
                "rbd_ceph_conf = \(conf)\nrbd_max_clone_depth = deep",
                "CLINKER_BAD_CONFIGURATION: rbd_max_clone_depth must be a whole number"
            ),
            ("rbd_ceph_conf = \(conf)\nrbd_keyring_conf = /none", "CLINKER_BAD_CONFIGURATION: rbd_keyring_conf: /none cannot be read"),
        ] {
            let output = try await check("volume_driver = rbd\n" + options)
            #expect(output.contains(words), "\(output)")
        }
    }

    @Test("a backend of nfs that cannot work says which option is wrong, and why")
    func nfsConfiguration() async throws {
        let directory = try StorageUnderTest.nfs.get().directory
        let port = try ServiceUnderTest.read(directory + "/shares")
        func shares(_ name: String, _ text: String) throws -> String {
            try ServiceUnderTest.write("\(directory)/\(name)", text)
            return "nfs_shares_config = \(directory)/\(name)"
        }
        for (options, words) in [
            (try shares("none", "# nothing\n"), "CLINKER_BAD_CONFIGURATION: nfs_shares_config names no share"),
            (try shares("bad", "no-share-at-all\n"), "CLINKER_BAD_CONFIGURATION: the share 'no-share-at-all' must be host:/path"),
            (try shares("missing", port.split(separator: "/export").joined(separator: "/nowhere")), "127.0.0.1:/nowhere cannot be mounted"),
            (try shares("vers", "127.0.0.1:/export vers=4.1\n"), "CLINKER_BAD_CONFIGURATION: nfs_mount_options: vers=4.1"),
            (try shares("away", "127.0.0.1:/export port=9,mountport=9\n"), "CLINKER_RETRY: 127.0.0.1:/export cannot be mounted"),
            ("nfs_shares_config = /none", "CLINKER_BAD_CONFIGURATION: nfs_shares_config: /none cannot be read"),
        ] {
            let output = try await check("volume_driver = nfs\n" + options)
            #expect(output.contains(words), "\(output)")
        }
    }

    private func rbdAndFile(_ options: String = "") throws -> ServiceUnderTest {
        let service = try ServiceUnderTest(
            backends: "rbd,file", sections: "[rbd]\n\(try StorageUnderTest.rbdSection(options))\n[file]\nvolume_driver = file\n")
        for kind in ["rbd", "file"] { _ = try MoveTests.type(service, kind, ["volume_backend_name": .string(kind)]) }
        return service
    }

    /// What deletions left is cleared every second.
    private static let eagerMaintenance = "deferred_deletion_purge_interval = 1\nbackend_stats_polling_interval = 1\n"

    /// A second of other work, which makes the OSD load again what it knows of images.
    private static func busy() async throws {
        let conf = try StorageUnderTest.ceph.get().directory + "/ceph.conf"
        _ = try await ServiceUnderTest.run("/usr/bin/rados", ["-c", conf, "-p", "volumes", "bench", "1", "write", "-b", "512", "-t", "32"])
    }

    private func ceph(_ command: String...) async throws {
        let conf = try StorageUnderTest.ceph.get().directory + "/ceph.conf"
        let result = try await ServiceUnderTest.run("/usr/bin/timeout", ["60", command[0], "-c", conf] + command.dropFirst())
        #expect(result.status == 0, "\(command): \(result.output)")
    }

    /// The names of all images, a line each; one in the trash has its id before it.
    private static func images() async throws -> String {
        let rbd = "rbd -c \(try StorageUnderTest.ceph.get().directory)/ceph.conf -p volumes"
        let result = try await ServiceUnderTest.run("/bin/bash", ["-c", "\(rbd) ls && \(rbd) trash ls --all"])
        #expect(result.status == 0, "\(result.output)")
        return result.output
    }

    /// Waits until an image has gone; the names of those that are left.
    private static func images(without name: String) async throws -> String {
        var left = try await images()
        for _ in 0..<100 {
            guard left.contains(name) else { break }
            usleep(100_000)
            left = try await images()
        }
        return left
    }

    /// A volume of the type with 128 MiB of data that is not there by chance; its beginning's sum.
    private func filled(_ service: ServiceUnderTest, type: JSON = "rbd") async throws -> String {
        let id = try service.create(["volume_type": type])
        try service.wait(id, "available")
        try await ceph("rbd", "-p", "volumes", "bench", "--io-type", "write", "--io-size", "4M", "--io-total", "128M", "volume-\(id)")
        return id
    }

    private func sum(_ image: String, bytes: Int = 1 << 30) async throws -> String {
        let conf = try StorageUnderTest.ceph.get().directory + "/ceph.conf"
        let result = try await ServiceUnderTest.run(
            "/bin/bash", ["-c", "rbd -c \(conf) export volumes/\(image) - 2> /dev/null | head -c \(bytes) | cksum"])
        return result.output
    }

    /// How a cluster becomes full, and has room again: the pool by its quota, or the OSD itself.
    private func setFull(_ what: String, _ isFull: Bool) async throws {
        if what == "pool" { return try await ceph("ceph", "osd", "pool", "set-quota", "volumes", "max_bytes", isFull ? "4096" : "0") }
        let ratios = [("nearfull", "0.000001", "0.85"), ("backfillfull", "0.000002", "0.90"), ("full", "0.000003", "0.95")]
        for (ratio, low, usual) in isFull ? ratios : ratios.reversed() {
            try await ceph("ceph", "osd", "set-\(ratio)-ratio", isFull ? low : usual)
        }
    }

    @Test("a renaming that a death cut off, before the directory or behind it, is finished by the next call", arguments: [false, true])
    func halfRenamed(isInDirectory: Bool) async throws {
        let service = try rbdAndFile()
        let source = try service.create(["volume_type": "rbd"])
        try service.wait(source, "available")
        let clone = try service.create(["source_volid": .string(source)])
        try service.wait(clone, "available")
        // What a clone hangs on is renamed when it is deleted. The objects of both names, as the death leaves them:
        let (old, new) = ("volume-\(source)", "volume-\(source).deleted")
        let object = temporaryDirectory("rename") + "/id"
        try await ceph("rados", "-p", "volumes", "get", "rbd_id.\(old)", object)
        if isInDirectory { try await ceph("rbd", "-p", "volumes", "rename", old, new) }
        try await ceph("rados", "-p", "volumes", "put", "rbd_id.\(isInDirectory ? old : new)", object)
        for id in [source, clone] {
            #expect(try service.api("DELETE", "/volumes/\(id)").status == 202)
            try service.wait(id, nil)
        }
        let names = try await Self.images()
        #expect(!names.contains(source) && !names.contains(clone), "\(names)")
    }

    @Test(
        "in a full cluster a volume stays where it was, and goes when there is room; what is deleted goes, or is given back until then",
        arguments: ["pool", "osd"])
    func full(what: String) async throws {
        let service = try rbdAndFile()
        let id = try service.create(["volume_type": "file"])
        try service.wait(id, "available")
        let file = open(MoveTests.path(service, "file", id), O_WRONLY | O_CLOEXEC)
        let bytes = [UInt8](repeating: 7, count: 64 << 20)
        #expect(write(file, bytes, bytes.count) == bytes.count)
        close(file)
        // A snapshot that a volume was made of, which a deletion must make independent; a volume with a clone, which it must rename.
        let origin = try service.create(["volume_type": "rbd"])
        try service.wait(origin, "available")
        try await ceph("rbd", "-p", "volumes", "bench", "--io-type", "write", "--io-size", "4M", "--io-total", "8M", "volume-\(origin)")
        let snapshot = try SnapshotTests.snapshot(service, of: origin)
        try SnapshotTests.wait(service, snapshot, "available")
        let source = try service.create(["volume_type": "rbd"])
        try service.wait(source, "available")
        let children = [try service.create(["snapshot_id": .string(snapshot)]), try service.create(["source_volid": .string(source)])]
        for child in children { try service.wait(child, "available") }
        try await setFull(what, true)
        let pool = try await filledUp()
        #expect(pool)
        #expect(try service.api("DELETE", "/snapshots/\(snapshot)").status == 202)
        try SnapshotTests.wait(service, snapshot, "available")
        #expect(try service.api("GET", "/messages?resource_uuid=\(snapshot)").json["messages"]?.array?.isEmpty == false)
        #expect(try service.api("DELETE", "/volumes/\(source)").status == 202)
        for _ in 0..<100 where try service.volume(source)?["status"] == "deleting" { usleep(100_000) }
        #expect([nil, "available"].contains(try service.volume(source)?["status"]?.string), "\(service.story)")
        _ = try MoveTests.action(service, id, "os-retype", ["new_type": "rbd", "migration_policy": "on-demand"])
        try service.wait(id, "available", seconds: 60)
        #expect(try service.volume(id)?["volume_type"] == "file")
        try await setFull(what, false)
        for _ in 0..<100 where try service.volume(id)?["volume_type"] == "file" {
            _ = try MoveTests.action(service, id, "os-retype", ["new_type": "rbd", "migration_policy": "on-demand"])
            try service.wait(id, "available", seconds: 60)
            usleep(300_000)
        }
        #expect(try service.volume(id)?["volume_type"] == "rbd")
        #expect(try service.api("DELETE", "/snapshots/\(snapshot)").status == 202)
        try SnapshotTests.wait(service, snapshot, nil)
        for volume in [id, source, origin] + children where try service.volume(volume) != nil {
            #expect(try service.api("DELETE", "/volumes/\(volume)").status == 202)
            // As long as a deletion may take that finds a watch whose client the cluster lost.
            try service.wait(volume, nil, seconds: 60)
        }
        try await DoctorTests.expectNothing(service)
    }

    @Test("backends that empty the trash of one pool at the same moment do not end each other")
    func sharedTrash() async throws {
        let options = "enable_deferred_deletion = true\ndeferred_deletion_delay = 1\n" + Self.eagerMaintenance
        let names = (1...4).map { "rbd\($0)" }
        let service = try ServiceUnderTest(
            backends: names.joined(separator: ","),
            sections: try names.map { "[\($0)]\n\(try StorageUnderTest.rbdSection(options))\n" }.joined())
        var ids: [String] = []
        for _ in 0..<6 { ids.append(try await filled(service, type: .null)) }
        for id in ids { #expect(try service.api("DELETE", "/volumes/\(id)").status == 202) }
        for id in ids {
            let left = try await Self.images(without: id)
            #expect(!left.contains(id), "\(left)")
        }
        #expect(!service.log.contains("signal 6"), "\(service.story)")
    }

    /// The monitors see that a quota is exceeded some seconds later: true once a write is refused.
    private func filledUp() async throws -> Bool {
        let conf = try StorageUnderTest.ceph.get().directory + "/ceph.conf"
        for _ in 0..<60 {
            let result = try await ServiceUnderTest.run(
                "/bin/bash", ["-c", "ceph -c \(conf) osd pool ls detail | grep \"'volumes'\" | grep -cw full || true"])
            if result.output.hasPrefix("1") { return true }
            // There must be something to count.
            _ = try await ServiceUnderTest.run(
                "/bin/bash", ["-c", "head -c 65536 /dev/zero | timeout 5 rados -c \(conf) -p volumes put .filler - || true"])
            usleep(500_000)
        }
        return false
    }

    @Test("an OSD that stops for seconds in the middle of a copy delays it, and no byte is lost")
    func stoppedOSD() async throws {
        let service = try rbdAndFile()
        let id = try await filled(service)
        let wanted = try await sum("volume-\(id)")
        let directory = try StorageUnderTest.ceph.get().directory
        let osd = pid_t(try ServiceUnderTest.read(directory + "/osd.pid").filter(\.isNumber)) ?? 0
        _ = try MoveTests.action(service, id, "os-retype", ["new_type": "file", "migration_policy": "on-demand"])
        usleep(300_000)
        kill(osd, SIGSTOP)
        usleep(4_000_000)
        // Reads of the database do not wait for storage.
        #expect(try service.api("GET", "/volumes/\(id)").status == 200)
        kill(osd, SIGCONT)
        try service.wait(id, "available", seconds: 90)
        #expect(try service.volume(id)?["volume_type"] == "file")
        let found = try await ServiceUnderTest.run("/bin/bash", ["-c", "cksum < \(MoveTests.path(service, "file", id))"])
        #expect(found.output == wanted)
        #expect(try service.api("DELETE", "/volumes/\(id)").status == 202)
        try service.wait(id, nil)
    }

    /// A kind of backend, and what its volumes lie in: looked at with others' tools.
    private struct Kind {
        let name: String
        let service: ServiceUnderTest

        init(_ name: String) throws {
            self.name = name
            let section =
                switch name {
                case "rbd":
                    try StorageUnderTest.rbdSection(
                        "rbd_max_clone_depth = 1\nrbd_flatten_volume_from_snapshot = true\n" + StorageFaultTests.eagerMaintenance)
                case "nfs": try StorageUnderTest.nfsSection()
                default: "volume_driver = file"
                }
            service = try ServiceUnderTest(
                backends: "\(name),other", sections: "[\(name)]\n\(section)\n[other]\nvolume_driver = file\n")
            for kind in [name, "other"] { _ = try MoveTests.type(service, kind, ["volume_backend_name": .string(kind)]) }
        }

        private func shell(_ command: String) async throws -> String {
            let result = try await ServiceUnderTest.run("/bin/bash", ["-o", "pipefail", "-c", command])
            #expect(result.status == 0, "\(command): \(result.output)")
            return result.output
        }

        private var rbd: String { get throws { "rbd -c \(try StorageUnderTest.ceph.get().directory)/ceph.conf -p volumes" } }

        private var folder: String {
            get throws { name == "nfs" ? try StorageUnderTest.nfs.get().directory + "/export" : service.state + "/volumes/\(name)" }
        }

        /// 128 MiB that are not there by chance.
        func fill(_ id: String) async throws {
            if name == "rbd" {
                _ = try await shell("\(rbd) bench --io-type write --io-size 4M --io-total 128M volume-\(id)")
            } else {
                _ = try await shell("dd if=/dev/urandom of=\(folder)/volume-\(id) conv=notrunc bs=1M count=128 iflag=fullblock status=none")
            }
        }

        /// Of all that the volume holds.
        func sum(_ id: String) async throws -> String {
            switch name {
            case "rbd": return try await shell("\(rbd) export volume-\(id) - 2> /dev/null | head -c 1073741824 | cksum")
            case "nfs":
                // The latest of the files that lie over each other.
                let info = try? JSON(parsing: ServiceUnderTest.read("\(folder)/volume-\(id).info"))
                let active = info?["active"]?.string ?? "volume-\(id)"
                return try await shell(
                    "cd \(folder) && copy=$(mktemp) && qemu-img convert -O raw \(active) $copy && cksum < $copy && rm $copy")
            default: return try await shell("cksum < \(folder)/volume-\(id)")
            }
        }

        /// What is there of any of these volumes, but for what takes a moment to go.
        func rest(of ids: [String]) async throws -> String {
            var left = ""
            for _ in 0..<100 {
                left = name == "rbd" ? try await StorageFaultTests.images() : try await shell("ls \(folder)")
                if !ids.contains(where: { left.contains($0) }) { return "" }
                if name == "rbd" { try await StorageFaultTests.busy() } else { usleep(100_000) }
            }
            return left
        }
    }

    /// One of the kinds, another one every day; all where changes are let in.
    private static let killed =
        FaultSample.isWhole
        ? ["rbd", "nfs", "file"] : FaultSample.isWholeForDrivers ? ["nfs", "file"] : [FaultSample.one(of: ["nfs", "file"])]

    @Test(
        "hosts that are killed while they clone, flatten, copy, merge and delete: it is finished or taken back, and nothing is left",
        arguments: killed)
    func kills(kind name: String) async throws {
        let kind = try Kind(name)
        let service = kind.service
        let source = try service.create(["volume_type": .string(name)])
        try service.wait(source, "available")
        try await kind.fill(source)
        let wanted = try await kind.sum(source)
        var all = [source]
        var numbers = Seeded(SoakTests.seed)
        func killSome() {
            for _ in 0..<3 {
                usleep(UInt32(20_000 + Int.random(in: 0..<400_000, using: &numbers)))
                for process in service.processes("driver-host") + service.processes("transfer") { kill(process, SIGKILL) }
            }
        }
        for round in 0..<(FaultSample.isWhole ? 8 : FaultSample.isWholeForDrivers ? 2 : 1) {
            let snapshot = try SnapshotTests.snapshot(service, of: source)
            try SnapshotTests.wait(service, snapshot, "available")
            let restored = try service.create(["snapshot_id": .string(snapshot)])
            let clone = try service.create(["source_volid": .string(source)])
            all += [restored, clone]
            killSome()
            for id in [restored, clone] {
                try service.wait(id, "available", seconds: 120)
                #expect(
                    try await kind.sum(id) == wanted, "round \(round), \(id == clone ? "clone" : "restored") \(id): \(service.story)")
            }
            _ = try MoveTests.action(service, clone, "os-retype", ["new_type": "other", "migration_policy": "on-demand"])
            #expect(try service.api("DELETE", "/snapshots/\(snapshot)").status == 202)
            #expect(try service.api("DELETE", "/volumes/\(restored)").status == 202)
            killSome()
            try SnapshotTests.wait(service, snapshot, nil)
            try service.wait(restored, nil, seconds: 60)
            try service.wait(clone, "available", seconds: 120)
            #expect(try service.volume(clone)?["volume_type"] == "other")
            let moved = try await ServiceUnderTest.run("/bin/bash", ["-c", "cksum < \(MoveTests.path(service, "other", clone))"])
            #expect(moved.output == wanted, "round \(round): \(service.story)")
            #expect(try service.api("DELETE", "/volumes/\(clone)").status == 202)
            try service.wait(clone, nil, seconds: 60)
        }
        #expect(try await kind.sum(source) == wanted)
        #expect(try service.api("DELETE", "/volumes/\(source)").status == 202)
        try service.wait(source, nil, seconds: 60)
        try await DoctorTests.expectNothing(service)
        let rest = try await kind.rest(of: all)
        #expect(rest == "", "\(rest)\n\(service.story)")
    }

    @Test("a removed snapshot that librbd keeps for a clone keeps its deleted volume, which goes with the clone")
    func removedSnapshot() async throws {
        let service = try rbdAndFile(Self.eagerMaintenance)
        let id = try service.create(["volume_type": "rbd"])
        try service.wait(id, "available")
        try await ceph("rbd", "-p", "volumes", "snap", "create", "--no-progress", "volume-\(id)@moment")
        try await ceph("rbd", "clone", "--rbd-default-clone-format", "2", "volumes/volume-\(id)@moment", "volumes/foreign-\(id)")
        // It gets a name of librbd's, in a namespace of removed ones.
        try await ceph("rbd", "-p", "volumes", "snap", "rm", "--no-progress", "volume-\(id)@moment")
        #expect(try service.api("DELETE", "/volumes/\(id)").status == 202)
        try service.wait(id, nil)
        let kept = try await Self.images()
        #expect(kept.contains("volume-\(id).deleted"), "\(kept)")
        try await ceph("rbd", "-p", "volumes", "rm", "--no-progress", "foreign-\(id)")
        let left = try await Self.images(without: id)
        #expect(!left.contains(id), "\(left)\n\(service.story)")
    }

    @Test("of a pool that others use as well nothing goes but our own: their snapshots, clones, trash and open images stay")
    func shared() async throws {
        let service = try ServiceUnderTest(
            options: "volume_name_template = vol_%s.img", backends: "rbd",
            sections: "[rbd]\n\(try StorageUnderTest.rbdSection("enable_deferred_deletion = true\n" + Self.eagerMaintenance))")
        let id = try service.create()
        try service.wait(id, "available")
        let image = "vol_\(id).img"
        try await ceph("rbd", "-p", "volumes", "bench", "--io-type", "write", "--io-size", "4M", "--io-total", "8M", image)
        let wanted = try await sum(image, bytes: 8 << 20)
        // A snapshot of the operator's, and one with a clone.
        for clone in [nil, "theirs-\(id)"] as [String?] {
            try await ceph("rbd", "-p", "volumes", "snap", "create", "--no-progress", "\(image)@tonight")
            if let clone {
                try await ceph("rbd", "clone", "--rbd-default-clone-format", "2", "volumes/\(image)@tonight", "volumes/\(clone)")
            }
            #expect(try service.api("DELETE", "/volumes/\(id)").status == 202)
            try service.wait(id, "available")
            for name in [image + "@tonight", image] { #expect(try await sum(name, bytes: 8 << 20) == wanted, "\(name)") }
            #expect(try service.api("GET", "/messages?resource_uuid=\(id)").json["messages"]?.array?.isEmpty == false)
            if let clone { try await ceph("rbd", "-p", "volumes", "rm", "--no-progress", clone) }
            try await ceph("rbd", "-p", "volumes", "snap", "rm", "--no-progress", "\(image)@tonight")
        }
        // An image of theirs in the trash, and one that a client has open.
        let (thrown, open) = ("vol_keepme.img", "open-\(id)")
        for name in [thrown, open] { try await ceph("rbd", "-p", "volumes", "create", "--size", "64M", "--no-progress", name) }
        try await ceph("rbd", "-p", "volumes", "trash", "mv", thrown)
        let (lifeline, theirs) = try socketPair()
        let client = try spawn(
            "/usr/bin/rbd", ["-c", StorageUnderTest.ceph.get().directory + "/ceph.conf", "-p", "volumes", "watch", open],
            descriptors: [(source: theirs, target: 0)])
        close(theirs)
        var entry: JSON?
        for _ in 0..<100 {
            entry = try service.api("GET", "/manageable_volumes/detail?host=node@rbd").json["manageable-volumes"]?.array?
                .first { $0["reference"]?["source-name"]?.string == open }
            if entry?["safe_to_manage"] == false { break }
            usleep(100_000)
        }
        #expect(entry?["safe_to_manage"] == false && entry?["reason_not_safe"] == "a client has it open", "\(String(describing: entry))")
        let refused = try service.api(
            "POST", "/manageable_volumes", ["volume": ["host": "node@rbd", "ref": ["source-name": .string(open)]]])
        let managed = refused.json["volume"]?["id"]?.string ?? ""
        try service.wait(managed, "error")
        #expect(try await Self.images().contains(open))
        // It leaves in good order.
        close(lifeline)
        reap(client)
        // Ours goes, for good, though its name is not the usual one.
        for volume in [id, managed] {
            #expect(try service.api("DELETE", "/volumes/\(volume)").status == 202)
            try service.wait(volume, nil)
        }
        let left = try await Self.images(without: image)
        #expect(!left.contains(image) && left.contains(thrown) && left.contains(open), "\(left)\n\(service.story)")
        try await ceph("rbd", "-p", "volumes", "rm", "--no-progress", open)
        let thrownID = left.split(separator: "\n").first { $0.hasSuffix(thrown) }?.split(separator: " ").first.map(String.init) ?? ""
        try await ceph("rbd", "-p", "volumes", "trash", "rm", "--no-progress", thrownID)
    }

    @Test("an image that cannot be read keeps maintenance from no other")
    func unreadableImage() async throws {
        let (unreadable, other) = ("volume-0.deleted", "volume-1.deleted")
        let (id, garbage) = (try StorageUnderTest.ceph.get().directory + "/id", try StorageUnderTest.ceph.get().directory + "/garbage")
        try ServiceUnderTest.write(garbage, "?")
        for name in [unreadable, other] { try await ceph("rbd", "-p", "volumes", "create", "--size", "1G", name) }
        try await ceph("rados", "-p", "volumes", "get", "rbd_id.\(unreadable)", id)
        try await ceph("rados", "-p", "volumes", "put", "rbd_id.\(unreadable)", garbage)
        let service = try rbdAndFile(Self.eagerMaintenance)
        let kept = try await Self.images(without: other)
        #expect(kept.contains(unreadable) && !kept.contains(other), "\(kept)\n\(service.story)")
        try await ceph("rados", "-p", "volumes", "put", "rbd_id.\(unreadable)", id)
        let left = try await Self.images(without: unreadable)
        #expect(!left.contains(unreadable), "\(left)\n\(service.story)")
    }

    /// Maintenance clears away what is left of a volume, once the OSD has forgotten the watch.
    private func expectCleared(_ id: String, _ service: ServiceUnderTest) async throws {
        for _ in 0..<20 where try await Self.images().contains(id) { try await Self.busy() }
        let left = try await Self.images()
        #expect(!left.contains(id), "\(left)\n\(service.story)")
    }

    @Test("a watch that the cluster never ends keeps no volume from going; its space comes back once the watch has gone")
    func forsakenWatch() async throws {
        let service = try rbdAndFile(Self.eagerMaintenance)
        let id = try service.create(["volume_type": "rbd"])
        try service.wait(id, "available")
        let directory = try StorageUnderTest.ceph.get().directory
        let left = try await ServiceUnderTest.run(
            ServiceUnderTest.root + "/Tests/Storage/forsaken-watch", [directory, "volumes", "volume-\(id)"])
        #expect(left.status == 0, "\(left.output)")
        #expect(try service.api("DELETE", "/volumes/\(id)").status == 202)
        try service.wait(id, nil)
        let kept = try await Self.images()
        #expect(
            kept.contains(" volume-\(id)") && service.log.contains("a watch of it which nobody answers for"), "\(kept)\n\(service.story)")
        try await expectCleared(id, service)
    }

    @Test("a removal that was cut off, and whose watch the cluster never ends, keeps no volume from going; what is left goes later")
    func forsakenRemoval() async throws {
        let service = try rbdAndFile(Self.eagerMaintenance)
        let id = try service.create(["volume_type": "rbd"])
        try service.wait(id, "available")
        let directory = try StorageUnderTest.ceph.get().directory
        let halfRemoved = try await ServiceUnderTest.run(
            "/bin/bash",
            [
                "-e", "-c",
                """
                \(ServiceUnderTest.root)/Tests/Storage/forsaken-watch \(directory) volumes volume-\(id)
                export CEPH_CONF=\(directory)/ceph.conf
                image=$(rbd info --format json volumes/volume-\(id) | sed 's/.*"id":"\\([0-9a-f]*\\)".*/\\1/')
                rbd trash mv volumes/volume-\(id)
                # Moved there by a removal (3, after the versions and the length), and long ago (the time after the name).
                entry=\(directory)/entry
                rados -p volumes getomapval rbd_trash id_$image $entry
                printf '\\3' | dd of=$entry bs=1 seek=6 conv=notrunc status=none
                printf '\\1\\0\\0\\0' | dd of=$entry bs=1 seek=$((7 + 4 + \("volume-\(id)".utf8.count))) conv=notrunc status=none
                rados -p volumes setomapval rbd_trash id_$image --input-file $entry
                """,
            ])
        #expect(halfRemoved.status == 0, "\(halfRemoved.output)")
        #expect(try service.api("DELETE", "/volumes/\(id)").status == 202)
        try service.wait(id, nil)
        #expect(service.log.contains("a watch of it which nobody answers for"), "\(service.story)")
        try await expectCleared(id, service)
    }

    @Test("a name in the pool's list that leads nowhere goes when its volume is deleted")
    func bareName() async throws {
        let service = try rbdAndFile()
        let id = try service.create(["volume_type": "rbd"])
        try service.wait(id, "available")
        // What a removal that was cut off between two steps of librbd leaves.
        try await ceph("rados", "-p", "volumes", "rm", "rbd_id.volume-\(id)")
        #expect(try service.api("DELETE", "/volumes/\(id)").status == 202)
        try service.wait(id, nil)
        let conf = try StorageUnderTest.ceph.get().directory + "/ceph.conf"
        let names = try await ServiceUnderTest.run("/usr/bin/rbd", ["-c", conf, "-p", "volumes", "ls"])
        #expect(names.status == 0 && !names.output.contains(id), "\(names.output)")
        // Others' names stay.
        let other = try service.create(["volume_type": "rbd"])
        try service.wait(other, "available")
        let kept = try await ServiceUnderTest.run("/usr/bin/rbd", ["-c", conf, "-p", "volumes", "ls"])
        #expect(kept.output.contains(other))
        #expect(try service.api("DELETE", "/volumes/\(other)").status == 202)
        try service.wait(other, nil)
    }

    @Test("an NFS server that restarts in the middle of a copy costs a repetition, and no byte")
    func restartedServer() async throws {
        let nfs = try StorageUnderTest.nfs.get()
        let service = try ServiceUnderTest(
            backends: "file,nfs", sections: "[file]\nvolume_driver = file\n[nfs]\n\(try StorageUnderTest.nfsSection())\n")
        for kind in ["file", "nfs"] { _ = try MoveTests.type(service, kind, ["volume_backend_name": .string(kind)]) }
        let id = try service.create(["volume_type": "file"])
        try service.wait(id, "available")
        let path = MoveTests.path(service, "file", id)
        let made = try await ServiceUnderTest.run(
            "/bin/bash",
            ["-c", "head -c 629145600 /dev/urandom | dd of=\(path) conv=notrunc bs=1M iflag=fullblock status=none && cksum < \(path)"])
        _ = try MoveTests.action(service, id, "os-retype", ["new_type": "nfs", "migration_policy": "on-demand"])
        usleep(400_000)
        let port = try ServiceUnderTest.read(nfs.directory + "/shares").split(separator: "port=")[1].prefix(while: \.isNumber)
        let script = ServiceUnderTest.root + "/Tests/Storage/nfs"
        let restarted = try await ServiceUnderTest.run(
            "/bin/bash", ["-c", "\(script) stop \(nfs.directory) && sleep 1 && \(script) start \(nfs.directory) \(port)"])
        #expect(restarted.status == 0, "\(restarted.output)")
        try service.wait(id, "available", seconds: 90)
        #expect(try service.volume(id)?["volume_type"] == "nfs")
        let found = try await ServiceUnderTest.run("/bin/bash", ["-c", "cksum < \(nfs.directory)/export/volume-\(id)"])
        #expect(found.output == made.output)
        #expect(try service.api("DELETE", "/volumes/\(id)").status == 202)
        try service.wait(id, nil)
    }

    @Test("files that go while a share is listed keep nobody from listing it")
    func vanishingFiles() async throws {
        let service = try ServiceUnderTest(backends: "nfs", sections: "[nfs]\n\(try StorageUnderTest.nfsSection())\n")
        try service.wait(try service.create(), "available")
        let isOver = Guarded(false)
        let finished = Semaphore()
        for index in 0..<8 {
            startThread("client-\(index)") {
                while !isOver.withLock({ $0 }), let id = try? service.create() {
                    _ = try? service.wait(id, "available")
                    _ = try? service.api("DELETE", "/volumes/\(id)")
                    _ = try? service.wait(id, nil)
                }
                finished.post()
            }
        }
        var refused = 0
        for _ in 0..<(FaultSample.isWholeForDrivers ? 4000 : 1000) {
            if try service.api("GET", "/manageable_volumes?host=node@nfs%23nfs").status != 200 { refused += 1 }
        }
        isOver.withLock { $0 = true }
        await SoakTests.wait(finished, 8)
        #expect(refused == 0, "\(service.story)")
    }

    @Test("a qcow2 file that leads to other files is not taken over, and one put in a volume's place shows nothing of them")
    func foreignFiles() async throws {
        let nfs = try StorageUnderTest.nfs.get()
        let export = nfs.directory + "/export"
        let service = try ServiceUnderTest(backends: "nfs", sections: "[nfs]\n\(try StorageUnderTest.nfsSection())\n")
        func make(_ name: String, _ options: String) async throws {
            let made = try await ServiceUnderTest.run(
                "/bin/bash", ["-c", "cd \(export) && qemu-img create -q -f qcow2 \(options) \(name) 1G"])
            #expect(made.status == 0, "\(made.output)")
        }
        try ServiceUnderTest.write(export + "/secret", "the server's secret")
        try await make("backed", "-b /etc/passwd -F raw")
        try await make("outside", "-o data_file=elsewhere")
        try await make("whole", "")
        func manage(_ name: String) throws -> String {
            let answer = try service.api(
                "POST", "/os-volume-manage", ["volume": ["host": "node@nfs#nfs", "ref": ["source-name": .string(name)]]])
            return answer.json["volume"]?["id"]?.string ?? ""
        }
        for name in ["backed", "outside"] {
            let id = try manage(name)
            try service.wait(id, "error")
            #expect(access(export + "/" + name, F_OK) == 0)
            #expect(service.log.contains(name == "backed" ? "has a backing file" : "keeps its data in another file"))
        }
        let whole = try manage("whole")
        try service.wait(whole, "available")
        #expect(try service.api("DELETE", "/volumes/\(whole)").status == 202)

        // A guest writes a header into its raw volume: it stays bytes.
        let raw = try service.create()
        try service.wait(raw, "available")
        _ = try await ServiceUnderTest.run(
            "/bin/bash", ["-c", "dd if=\(export)/backed of=\(export)/volume-\(raw) conv=notrunc bs=64k status=none"])
        let clone = try service.create(["source_volid": .string(raw)])
        try service.wait(clone, "available", seconds: 60)
        #expect(try FileContent.difference(export + "/volume-\(raw)", export + "/volume-\(clone)") == nil)
        for id in [raw, clone] {
            #expect(try service.api("DELETE", "/volumes/\(id)").status == 202)
            try service.wait(id, nil)
        }
        for name in ["secret", "backed", "outside", "elsewhere"] { unlink(export + "/" + name) }
    }
}
