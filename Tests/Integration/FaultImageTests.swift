import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// The fault table of images, with a real Glance: each driver call that making a volume of an image, an image of a volume, and the cache
/// between them consist of, each way in which it can go wrong, processes of every kind killed in the middle of it, and what there is
/// afterwards.
@Suite("Fault table of images", .serialized)
struct FaultImageTests {
    typealias Fault = FaultBackupTests.Fault

    /// What is done.
    enum Act: String, CaseIterable, Sendable {
        case raw, qcow2
        /// A plain image becomes an encrypted volume.
        case encrypted
        /// A volume whose image is cached on the way, and one whose image is.
        case caching, cached
        case upload, uploadInUse
        case reimage

        var calls: [String] {
            switch self {
            case .raw, .qcow2, .encrypted: ["create_volume", "open_handle", "get_size", "write", "flush"]
            case .caching: ["create_volume", "open_handle", "get_size", "write", "flush", "clone_volume"]
            case .cached: ["clone_volume"]
            case .upload: ["open_handle", "get_size", "extents", "read"]
            case .uploadInUse: ["create_snapshot", "open_handle", "get_size", "extents", "read", "delete_snapshot"]
            case .reimage: ["open_handle", "get_size", "write", "flush"]
            }
        }

        var makesVolume: Bool { ![.upload, .uploadInUse, .reimage].contains(self) }
        var usesCache: Bool { self == .caching || self == .cached }

        /// Whether the user has what he wanted though the call went wrong.
        func passes(_ call: String, _ fault: Fault) -> Bool {
            if fault.passes { return true }
            switch call {
            // Where the cache has trouble the image is read in its place.
            case _ where usesCache: return true
            // A driver without snapshots: the volume itself is read. A map that it leaves out: all is data.
            case "create_snapshot", "extents": return fault == .unsupported
            default: return false
            }
        }
    }

    private static let tenant = "fedcba9876543210fedcba9876543210"

    private static func content(_ number: UInt8) -> [UInt8] {
        (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) ^ number }
    }

    /// A service of the faulty backend with a Glance, and what its acts begin with.
    private final class Bed {
        let act: Act
        let glance: GlanceUnderTest
        let backend: FaultyBackend
        let service: ServiceUnderTest
        let image: String
        /// The image that the volume holds before it is written over.
        private(set) var other = ""
        /// The volume that is uploaded or written over.
        private(set) var volume: String?
        /// The volume of the cache.
        private(set) var cached: String?

        init(_ act: Act) async throws {
            self.act = act
            glance = try GlanceUnderTest.open.get()
            backend = try FaultyBackend()
            service = try backend.service(
                options: """
                    glance_api_servers = \(glance.address)
                    enable_force_upload = true
                    image_conversion_cpu_limit = 600
                    cinder_internal_tenant_project_id = \(FaultImageTests.tenant)
                    cinder_internal_tenant_user_id = keeper
                    """, more: act.usesCache ? "image_volume_cache_enabled = true" : "", callTimeout: 30)
            let content = FaultImageTests.content(1)
            if act == .qcow2 {
                try ServiceUnderTest.write(service.directory + "/raw", "")
                let file = open(service.directory + "/raw", O_WRONLY | O_CLOEXEC)
                #expect(write(file, content, content.count) == content.count)
                close(file)
                let made = try await ServiceUnderTest.run(
                    "/usr/bin/qemu-img",
                    ["convert", "-f", "raw", "-O", "qcow2", service.directory + "/raw", service.directory + "/qcow2"])
                #expect(made.status == 0, "\(made.output)")
                image = try glance.image(
                    ["disk_format": "qcow2"], data: try ServiceUnderTest.bytes(service.directory + "/qcow2"))
            } else {
                image = try glance.image(data: content)
            }
            if act == .encrypted { _ = try EncryptedVolumeTests.encryptedType(service) }
            guard act != .raw, act != .qcow2, act != .encrypted, act != .caching else { return }
            if act == .cached {
                // Of the first one the image is kept.
                let first = try service.create(["imageRef": .string(image)])
                try service.wait(first, "available")
                #expect(try service.api("DELETE", "/volumes/\(first)").status == 202)
                try service.wait(first, nil)
                cached = try cachedVolumes().first
                return
            }
            other = try glance.image(data: FaultImageTests.content(2))
            let made = try service.create(["imageRef": .string(other)])
            try service.wait(made, "available")
            volume = made
            if act == .uploadInUse {
                let attached = try service.api(
                    "POST", "/volumes/\(made)/action",
                    ["os-attach": ["instance_uuid": "11111111-2222-4333-8444-555555555555", "mountpoint": "/dev/vdb", "mode": "rw"]])
                #expect(attached.status == 202)
            }
        }

        var keys: Int { ServiceUnderTest.entries(service.state + "/keys").count { $0 != "outer.key" } }

        func path(_ id: String) -> String { backend.directory + "/volumes/volume-" + id }

        /// Volumes of the internal project.
        func cachedVolumes() throws -> [String] {
            let all =
                try service.api("GET", "/volumes/detail?all_tenants=1&project_id=\(FaultImageTests.tenant)").json["volumes"]?.array ?? []
            return all.filter { $0["os-vol-tenant-attr:tenant_id"] == .string(FaultImageTests.tenant) }.compactMap { $0["id"]?.string }
        }

        func ask(_ fault: Fault, _ path: String, _ body: JSON) throws -> JSON? { try backend.ask(fault, service, path, body) }

        /// The first answer that is not nil.
        func eventually<T>(_ what: String, _ ask: () throws -> T?) throws -> T {
            let limit = Timestamp.monotonic() + 60
            while Timestamp.monotonic() < limit {
                if let found = try? ask() { return found }
                usleep(20_000)
            }
            throw ServiceUnderTest.Failure("there is no \(what)\n\(service.story)")
        }

        func messages(_ id: String) throws -> [String] {
            try service.api("GET", "/messages?resource_uuid=\(id)").json["messages"]?.array?.compactMap { $0["event_id"]?.string } ?? []
        }

        func remove(_ id: String, _ cell: String) throws {
            #expect(try service.api("DELETE", "/volumes/\(id)").status == 202, "\(cell): delete afterwards")
            try service.wait(id, nil, seconds: 60)
        }

        /// Whether the volume begins with the bytes, and has zeroes behind them.
        func holds(_ content: [UInt8], _ id: String) throws -> Bool {
            let bytes = try ServiceUnderTest.bytes(path(id), atMost: content.count + 4096)
            return bytes.count == content.count + 4096 && bytes[..<content.count].elementsEqual(content)
                && bytes[content.count...].allSatisfy { $0 == 0 }
        }
    }

    private func make(_ call: String, _ fault: Fault, _ bed: Bed, _ cell: String) throws {
        let service = bed.service
        let passes = bed.act.passes(call, fault)
        let name = "of \(cell)"
        var fields: JSONObject = ["size": 1, "name": .string(name), "imageRef": .string(bed.image)]
        if bed.act == .encrypted { fields["volume_type"] = "secret" }
        let made = try bed.ask(fault, "/volumes", ["volume": .object(fields)])?["volume"]?["id"]?.string
        try bed.backend.meet(fault, service, cell)
        let id =
            try made
            ?? bed.eventually("new volume") {
                try service.api("GET", "/volumes").json["volumes"]?.array?.first { $0["name"] == .string(name) }?["id"]?.string
            }
        let shown = try service.wait(id, passes ? "available" : "error", seconds: 240)
        #expect(shown?["bootable"] == (passes ? "true" : "false"), "\(cell): bootable")
        if passes {
            if bed.act == .encrypted {
                let begin = try ServiceUnderTest.bytes(bed.path(id), atMost: 4)
                #expect(begin == Array("LUKS".utf8), "\(cell): what lies in the storage is not encrypted")
                #expect(bed.keys == 1, "\(cell): keys")
            } else {
                #expect(try bed.holds(Self.content(1), id), "\(cell): the volume is not the image")
            }
        } else {
            #expect(try bed.messages(id).isEmpty == false, "\(cell): no message for the user")
            #expect(bed.backend.files.isEmpty && bed.keys == 0, "\(cell): \(bed.backend.files) remain, and \(bed.keys) keys")
            #expect(shown?["volume_image_metadata"] == nil, "\(cell): image metadata")
        }
        try bed.remove(id, cell)
        if bed.act == .caching {
            // It is filled by an operation of its own, whose trouble is nobody's.
            for kept in try bed.cachedVolumes() {
                if try service.volume(kept) != nil { try service.wait(kept, "available", seconds: 60) }
                if try service.volume(kept) != nil { try bed.remove(kept, cell) }
            }
        }
    }

    private func upload(_ call: String, _ fault: Fault, _ bed: Bed, _ cell: String) async throws {
        let (service, glance) = (bed.service, bed.glance)
        let volume = try #require(bed.volume)
        let passes = bed.act.passes(call, fault)
        let name = "of \(cell) \(UUID.random())"
        let body: JSON = [
            "os-volume_upload_image": ["image_name": .string(name), "disk_format": "qcow2", "force": .bool(bed.act == .uploadInUse)]
        ]
        let sent = try bed.ask(fault, "/volumes/\(volume)/action", body)?["os-volume_upload_image"]?["image_id"]?.string
        try bed.backend.meet(fault, service, cell)
        let found = sent == nil ? try glance.images(named: name).first : sent
        let image = try #require(found, "\(cell): no image was made")
        try service.wait(volume, bed.act == .uploadInUse ? "in-use" : "available", seconds: 240)
        _ = try bed.eventually("end of the operations") {
            try service.api("GET", "/operations?state=running").json["operations"]?.array?.isEmpty == true ? true : nil
        }
        let shown = try glance.show(image)
        if passes {
            #expect(shown?["status"] == "active", "\(cell): the image is \(shown?["status"] ?? "gone")")
            let same = try await ServiceUnderTest.run(
                "/usr/bin/qemu-img",
                ["compare", "-q", "-f", "qcow2", "-F", "raw", "\(glance.directory)/images/\(image)", bed.path(volume)])
            #expect(same.status == 0, "\(cell): the image is not the volume: \(same.output)")
            #expect(try glance.ask("DELETE", "/v2/images/\(image)").status == 204)
        } else {
            #expect(shown == nil, "\(cell): the image is \(shown?["status"] ?? "gone")")
            #expect(try bed.messages(volume).first == "VOLUME_VOLUME_003_004", "\(cell): message")
        }
        #expect(ServiceUnderTest.entries(service.state + "/conversion").isEmpty, "\(cell): conversion")
        // The snapshots that were read go behind the images.
        _ = try bed.eventually("end of the snapshot") { bed.backend.files == ["volume-" + volume] ? true : nil }
    }

    private func reimage(_ call: String, _ fault: Fault, _ bed: Bed, _ cell: String) throws {
        let service = bed.service
        let volume = try #require(bed.volume)
        let passes = bed.act.passes(call, fault)
        _ = try bed.ask(fault, "/volumes/\(volume)/action", ["os-reimage": ["image_id": .string(bed.image)]])
        try bed.backend.meet(fault, service, cell)
        let shown = try service.wait(volume, passes ? "available" : "error", seconds: 240)
        if passes {
            #expect(try bed.holds(Self.content(1), volume), "\(cell): the volume is not the image")
            #expect(shown?["volume_image_metadata"]?["image_id"] == .string(bed.image), "\(cell): image metadata")
        } else {
            #expect(try bed.messages(volume).first?.hasPrefix("VOLUME_VOLUME_016_") == true, "\(cell): message")
            #expect(try service.api("POST", "/volumes/\(volume)/action", ["os-reset_status": ["status": "available"]]).status == 202)
        }
        // As it was, by the next one: whatever the state, it is mended so.
        #expect(try service.api("POST", "/volumes/\(volume)/action", ["os-reimage": ["image_id": .string(bed.other)]]).status == 202)
        try service.wait(volume, "available", seconds: 60)
        #expect(try bed.holds(Self.content(2), volume), "\(cell): the next one does not mend it")
    }

    private func run(_ call: String, _ fault: Fault, _ bed: Bed) async throws {
        let (service, act) = (bed.service, bed.act)
        let cell = "image \(act) \(call) \(fault)"
        try bed.backend.set("\(call) \(fault.rawValue) 1\n")
        switch act {
        case .raw, .qcow2, .encrypted, .caching, .cached: try make(call, fault, bed, cell)
        case .upload, .uploadInUse: try await upload(call, fault, bed, cell)
        case .reimage: try reimage(call, fault, bed, cell)
        }
        let kept = [bed.volume, bed.cached].compactMap(\.self)
        #expect(bed.backend.files == Set(kept.map { "volume-" + $0 }), "\(cell): files")
        #expect(bed.keys == 0, "\(cell): keys")
        let mine = bed.volume == nil ? Int64(0) : 1
        #expect(try service.usage("volumes") == mine && service.usage("gigabytes") == mine, "\(cell): charge")
        let findings = try await DoctorTests.examine(service).findings
        #expect(findings.isEmpty, "\(cell): \(findings)")
    }

    @Test("every act, each of its driver calls, each fault", arguments: Act.allCases)
    func table(act: Act) async throws {
        // Each of some hundred cells takes a second and more.
        let cells = act.calls.flatMap { call in Fault.allCases.map { (call: call, fault: $0) } }
            // A removal that fails is begun again after a minute: that is shown for backups.
            .filter { $0.call != "delete_snapshot" || $0.fault.passes }
            .filter { FaultSample.holds("image \(act) \($0.call) \($0.fault)", oneOf: 250) }
        guard !cells.isEmpty else { return }
        let bed = try await Bed(act)
        for cell in cells {
            do { try await run(cell.call, cell.fault, bed) } catch {
                Issue.record("image \(act) \(cell.call) \(cell.fault): \(String(describing: error).prefix(1500))")
                return
            }
        }
    }
}
