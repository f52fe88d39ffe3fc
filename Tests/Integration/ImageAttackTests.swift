import Glibc
import JSON
import Primitives
import Processes
import TestSupport
import Testing

/// Images that lie about what they are, from a real Glance: what becomes of the volumes that were to hold them, and what was opened for them.
@Suite("Images that lie", .serialized)
struct ImageAttackTests {
    let glance: GlanceUnderTest

    init() throws { glance = try GlanceUnderTest.open.get() }

    /// An image, and what is said of it.
    private struct Lie: Sendable {
        let format: String
        let words: String
        var message = "VOLUME_VOLUME_005_104"
        /// A shell command that makes the file `image` in a directory of its own; `BAIT` is the path of a file that is nobody's business,
        /// `PORT` that of a server that nobody should ask.
        let make: String
        /// Done to the file in Glance's store, when Glance has taken it.
        var corrupt: (@Sendable (String) throws -> Void)?
    }

    /// Writes these bytes at an offset of the image.
    private static func put(_ bytes: [UInt8], at offset: Int) -> String {
        let octal = bytes.map { "\\" + String(0o1000 + Int($0), radix: 8).dropFirst() }.joined()
        return "printf '\(octal)' | dd of=image bs=1 seek=\(offset) conv=notrunc status=none"
    }

    private static let filled = "head -c 3000000 /dev/urandom > raw; truncate -s 8M raw; qemu-img convert -f raw -O qcow2 raw image"

    private static let lies: [Lie] = [
        Lie(format: "raw", words: "declared raw, found qcow2", make: filled),
        Lie(format: "vmdk", words: "declared vmdk, found qcow2", make: filled),
        Lie(format: "qcow2", words: "backing file", make: "qemu-img create -q -f qcow2 -b BAIT -F raw image"),
        Lie(
            format: "qcow2", words: "backing file",
            make:
                #"qemu-img create -q -u -f qcow2 -F raw -b 'json:{"driver":"nbd","server":{"type":"inet","host":"127.0.0.1","port":"PORT"}}' image 1M"#
        ),
        Lie(
            format: "qcow2", words: "in another file",
            make: "qemu-img create -q -f qcow2 -o data_file=BAIT.data,data_file_raw=on image 1M; rm -f BAIT.data; ln BAIT BAIT.data"),
        Lie(format: "qcow2", words: "encrypted", make: filled + "; " + put([0, 0, 0, 1], at: 32)),
        Lie(format: "qcow2", words: "is absurd", make: filled + "; " + put([0xA0, 0, 0, 0, 0, 0, 0, 0], at: 24)),
        Lie(format: "qcow2", words: "virtual size is 1099511627776 bytes", make: "qemu-img create -q -f qcow2 image 1T"),
        Lie(format: "qcow2", words: "image_conversion_cpu_limit", make: bomb),
        Lie(format: "qcow2", words: "truncated", make: filled + "; truncate -s 1000000 image"),
        Lie(
            format: "vmdk", words: "only a descriptor",
            make: #"""
                printf '# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="monolithicFlat"\nRW 2048 FLAT "BAIT" 0\nddb.adapterType = "ide"\n' > image
                """#),
        Lie(
            format: "vmdk", words: "names a path",
            make: #"qemu-img create -q -f vmdk image 1M; sed -i 's|SPARSE "image"|SPARSE "/etc/"|' image"#),
        Lie(
            format: "vhd", words: "parent",
            make:
                "qemu-img create -q -f vpc -o force_size=on image 1M; \(put([0, 0, 0, 4], at: 60)); head -c 512 image > end; truncate -s -512 image; cat end >> image"
        ),
        Lie(
            format: "raw", words: "not those of its", make: "head -c 300000 /dev/urandom > image",
            corrupt: { path in
                let file = open(path, O_RDWR | O_CLOEXEC)
                defer { close(file) }
                var byte: [UInt8] = [0]
                #expect(pread(file, &byte, 1, 1000) == 1)
                #expect(pwrite(file, [byte[0] ^ 1], 1, 1000) == 1)
            }),
        Lie(
            format: "raw", words: "", message: "VOLUME_VOLUME_005_105", make: "head -c 300000 /dev/urandom > image",
            corrupt: { path in #expect(truncate(path, 100_000) == 0) }),
    ]

    /// Some kilobytes, each of whose 16,384 clusters is the same compressed one.
    private static let bomb = """
        truncate -s 1G raw; seq 100000 112000 | head -c 65536 > text
        dd if=text of=raw conv=notrunc status=none; dd if=text of=raw bs=1M seek=512 conv=notrunc status=none
        qemu-img convert -c -f raw -O qcow2 raw image
        python3 - << 'END'
        data = bytearray(open('image', 'rb').read())
        number = lambda at: int.from_bytes(data[at:at + 8], 'big') & (1 << 62) - 1
        tables = [number(number(40)), number(number(40) + 8)]
        entry = data[tables[0]:tables[0] + 8]
        assert entry[0] & 0x40
        for table in tables:
            data[table:table + 8192 * 8] = entry * 8192
        open('image', 'wb').write(data)
        END
        """

    /// A command in a new directory, and the image that it makes.
    private func made(_ lie: Lie, bait: String, port: UInt16) async throws -> [UInt8] {
        let directory = temporaryDirectory("lie")
        let command = lie.make.replacing("BAIT", with: bait).replacing("PORT", with: "\(port)")
        let result = try await ServiceUnderTest.run("/bin/bash", ["-c", "cd \(directory); set -e\n\(command)"])
        guard result.status == 0 else { throw ServiceUnderTest.Failure("\(command): \(result.output)") }
        return try ServiceUnderTest.bytes(directory + "/image")
    }

    /// An image as a Glance has it that looks into none: this one does not where there is something around the disk.
    private func taken(_ format: String, _ data: [UInt8]) async throws -> String {
        let image = try glance.image(["disk_format": .string(format), "container_format": "ovf"], data: data)
        let change = """
            import sqlite3, sys
            database = sqlite3.connect(sys.argv[1], timeout=60)
            with database:
                database.execute("UPDATE images SET container_format = 'bare' WHERE id = ?", sys.argv[2:])
            """
        let result = try await ServiceUnderTest.run("/usr/bin/python3", ["-c", change, glance.directory + "/glance.db", image])
        guard result.status == 0 else { throw ServiceUnderTest.Failure(result.output) }
        return image
    }

    /// Where programs, their libraries and their settings lie.
    private static let system = [
        "/usr/", "/lib/", "/lib64/", "/bin/", "/opt/", "/etc/", "/proc/", "/sys/", "/dev/", "/run/", "/root/", "/home/", "/snap/",
    ]

    @Test("a volume of each is in error with its message, nothing of it stays, and nothing was opened or asked that is not the service's")
    func watched() async throws {
        let bait = temporaryDirectory("bait") + "/file"
        try ServiceUnderTest.write(bait, String(repeating: "nobody's business\n", count: 100_000))
        let trap = try HTTPFaultProxy(to: nil)
        let service = try ServiceUnderTest(
            options: "glance_api_servers = \(glance.address)\nglance_num_retries = 0\nimage_conversion_cpu_limit = 1\nquota_volumes = -1\n",
            start: false)
        let trace = service.directory + "/trace"
        // The tracer is nobody's parent: the service ends as it does without.
        try service.launch(
            wrapper: [
                "/usr/bin/strace", "-D", "-f", "-qq", "-s", "300", "-o", trace, "-e",
                "trace=open,openat,openat2,creat,link,linkat,symlink,execve",
            ])
        try service.waitUntilServing()
        var volumes: [(id: String, lie: Lie)] = []
        for lie in Self.lies {
            let image = try await taken(lie.format, try await made(lie, bait: bait, port: trap.port))
            try lie.corrupt?(glance.directory + "/images/" + image)
            volumes.append((try service.create(["imageRef": .string(image)]), lie))
        }
        for (id, lie) in volumes {
            let shown = try service.wait(id, "error", seconds: 240)
            #expect(shown?["bootable"] == "false" && shown?["volume_image_metadata"] == nil)
            let operation = try service.api("GET", "/operations?resource_id=\(id)&limit=1").text
            #expect(operation.contains(lie.words), "\(lie.format) \(lie.words): \(operation)")
            let messages = try service.api("GET", "/messages?resource_uuid=\(id)").json["messages"]?.array ?? []
            #expect(messages.map { $0["event_id"]?.string } == [lie.message], "\(lie.format) \(lie.words): \(messages)")
        }
        #expect(ServiceUnderTest.entries(service.state + "/volumes/file").isEmpty)
        #expect(ServiceUnderTest.entries(service.state + "/conversion").isEmpty)
        // A good one among them, so that it is seen what is opened for it.
        let good = try service.create(["imageRef": .string(try glance.image(data: [1, 2, 3]))])
        try service.wait(good, "available", seconds: 60)
        for id in volumes.map(\.id) + [good] { #expect(try service.api("DELETE", "/volumes/\(id)").status == 202) }
        for id in volumes.map(\.id) + [good] { try service.wait(id, nil, seconds: 60) }
        #expect(try service.usage("volumes") == 0 && service.usage("gigabytes") == 0)
        #expect(service.stop() == 0)

        #expect(trap.connections == 0)
        let lines = try ServiceUnderTest.read(trace).split(separator: "\n")
        #expect(lines.contains { $0.contains("qemu-img") } && lines.contains { $0.contains("volume-" + good) }, "nothing was watched")
        let named = lines.compactMap { $0.split(separator: "\"").dropFirst().first }.filter { $0.hasPrefix("/") }
        let own = Self.system + [service.directory + "/", String(ServiceUnderTest.binary.dropLast("clinker".count))]
        let others = Set(named.filter { path in path != "/" && !own.contains { (path + "/").hasPrefix($0) } })
        #expect(others.isEmpty, "\(others)")
        #expect(!lines.contains { $0.contains(bait) })
        #expect(try ServiceUnderTest.read(bait).hasPrefix("nobody's business\n"))
    }

    /// Whether a file system can be made that only one process and its children see.
    private static let canMount =
        (try? spawn("/usr/bin/unshare", ["-rm", "/bin/sh", "-c", "exec mount -t tmpfs none /mnt"], descriptors: [])).map { reap($0) } == 0

    @Test(
        "a full directory for conversions: no volume and no image come of it, the user is told why, and what fits is converted afterwards",
        .enabled(if: canMount))
    func full() async throws {
        let directory = temporaryDirectory("conversion")
        let service = try ServiceUnderTest(
            options: "glance_api_servers = \(glance.address)\nimage_conversion_dir = \(directory)\nimage_conversion_cpu_limit = 600\n",
            start: false)
        try service.launch(
            wrapper: [
                "/usr/bin/unshare", "-rm", "/bin/sh", "-c", #"mount -t tmpfs -o size=4m none "$0" && exec "$@""#, directory,
            ])
        try service.waitUntilServing()
        func left() -> [String] { ServiceUnderTest.entries("/proc/\(service.pid)/root\(directory)") }
        func operation(_ id: String) throws -> String { try service.api("GET", "/operations?resource_id=\(id)&limit=1").text }
        func messages(_ id: String) throws -> [String] {
            try service.api("GET", "/messages?resource_uuid=\(id)").json["messages"]?.array?.compactMap { $0["event_id"]?.string } ?? []
        }
        let make = "head -c 6000000 /dev/urandom > raw; qemu-img convert -f raw -O qcow2 raw image"
        let large = try glance.image(
            ["disk_format": "qcow2"], data: try await made(Lie(format: "qcow2", words: "", make: make), bait: "", port: 0))
        let volume = try service.create(["imageRef": .string(large)])
        try service.wait(volume, "error", seconds: 60)
        #expect(try messages(volume) == ["VOLUME_VOLUME_005_007"])
        #expect(try operation(volume).contains("image_conversion_dir (\(directory)) has"))
        #expect(ServiceUnderTest.entries(service.state + "/volumes/file").isEmpty && left().isEmpty)

        // What is sent is only known to be too long when the directory is full.
        let content = (0..<6_000_000).map { UInt8(truncatingIfNeeded: ($0 &* 2_654_435_761) >> 13) }
        let source = try service.create(["imageRef": .string(try glance.image(data: content))])
        try service.wait(source, "available", seconds: 60)
        func upload() throws -> String {
            let sent = try service.api(
                "POST", "/volumes/\(source)/action", ["os-volume_upload_image": ["image_name": "i", "disk_format": "qcow2"]])
            let id = try #require(sent.json["os-volume_upload_image"]?["image_id"]?.string, "\(sent.text)")
            try service.wait(source, "available", seconds: 60)
            return id
        }
        #expect(try glance.show(upload()) == nil)
        #expect(try messages(source) == ["VOLUME_VOLUME_003_004"])
        #expect(try operation(source).contains("image_conversion_dir (\(directory)) is full"))
        #expect(left().isEmpty)

        let small = try glance.image(data: [1, 2, 3])
        #expect(try service.api("POST", "/volumes/\(source)/action", ["os-reimage": ["image_id": .string(small)]]).status == 202)
        try service.wait(source, "available", seconds: 60)
        #expect(try glance.show(upload())?["status"] == "active")
    }
}
