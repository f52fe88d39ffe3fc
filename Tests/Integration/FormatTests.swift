import Glibc
import JSON
import Testing

/// What a guest wrote is bytes, whatever it looks like.
@Suite("Formats", .serialized)
struct FormatTests {
    @Test("contents that look like images keep their bytes and format in every flow, and no file that they name is opened")
    func hostileContents() async throws {
        let (ceph, nfs) = (try StorageUnderTest.ceph.get(), try StorageUnderTest.nfs.get())
        let folder = nfs.directory + "/export/qcow2"
        mkdir(folder, 0o777)
        defer { rmdir(folder) }
        let shares = try ServiceUnderTest.read(nfs.directory + "/shares").replacing("/export", with: "/export/qcow2")
        try ServiceUnderTest.write(nfs.directory + "/qcow2-shares", shares)
        let nfsSection = try StorageUnderTest.nfsSection()
        let service = try ServiceUnderTest(
            options: "quota_volumes = -1\nquota_gigabytes = -1\nquota_snapshots = -1", backends: "file,nfs,qcow2,rbd",
            sections: "[file]\nvolume_driver = file\n[rbd]\n\(try StorageUnderTest.rbdSection())\n[nfs]\n\(nfsSection)\n"
                + "[qcow2]\n\(nfsSection.replacing("/shares", with: "/qcow2-shares"))nfs_qcow2_volumes = true\n")
        // One of them and the life of one backend's volumes, others every day; raw volumes of NFS are copied with all their zeroes.
        let first = FaultSample.one(of: Array(0..<17))
        let contents = FaultSample.isWhole ? "17+0" : FaultSample.isWholeForDrivers ? "3+\(first)" : "1+\(first)"
        let lives =
            FaultSample.isWholeForDrivers ? ["file", "nfs", "qcow2", "rbd"] : [FaultSample.one(of: ["file", "qcow2", "nfs", "rbd"])]
        let result = try await ServiceUnderTest.run(
            "/usr/bin/python3",
            [
                ServiceUnderTest.sources + "/clients/hostile.py", "http://127.0.0.1:\(service.port)", ceph.directory + "/ceph.conf",
                nfs.directory + "/export", contents,
            ] + ["file=raw", "nfs=raw", "qcow2=qcow2", "rbd=raw"].map { lives.contains(String($0.prefix { $0 != "=" })) ? $0 + "*" : $0 })
        #expect(result.status == 0 && result.output.hasSuffix("hostile: done\n"), "\(result.output)\n\(service.story)")
        try await DoctorTests.expectNothing(service)
        #expect(StorageUnderTest.volumes(in: folder) == [])
        #expect(StorageUnderTest.volumes(in: nfs.directory + "/export") == ["qcow2"])
    }

    private struct Shop {
        let service: ServiceUnderTest
        let export: String

        init() throws {
            export = try StorageUnderTest.nfs.get().directory + "/export"
            service = try ServiceUnderTest(
                options: "quota_volumes = -1", backends: "nfs", sections: "[nfs]\n\(try StorageUnderTest.nfsSection())\n")
        }

        func bash(_ script: String) async throws -> (status: Int32, output: String) {
            try await ServiceUnderTest.run("/bin/bash", ["-c", "set -e; cd \(export); \(script)"])
        }

        func manage(_ name: String, _ status: String) throws -> String {
            let answer = try service.api(
                "POST", "/os-volume-manage", ["volume": ["host": "node@nfs#nfs", "ref": ["source-name": .string(name)]]])
            let id = answer.json["volume"]?["id"]?.string ?? ""
            try service.wait(id, status)
            return id
        }

        func remove(_ ids: [String]) throws {
            for id in ids { #expect(try service.api("DELETE", "/volumes/\(id)").status == 202) }
            for id in ids { try service.wait(id, nil) }
        }

        /// What qemu-img says of the file: nothing lost, nothing used twice, nothing unused.
        func expectOrder(_ file: String) async throws {
            let check = try await bash("qemu-img check -f qcow2 \(file)")
            #expect(check.status == 0, "\(check.output)")
        }
    }

    @Test("an operator's compressed image is read, cloned and written, and stays in order")
    func compressed() async throws {
        let shop = try Shop()
        let made = try await shop.bash(
            """
            head -c 8M /dev/urandom > plain; seq 2000000 >> plain; truncate -s 64M plain
            qemu-img convert -c -O qcow2 plain packed; qemu-img convert -c -O qcow2 -o compression_type=zstd plain zstd
            """)
        #expect(made.status == 0, "\(made.output)")
        let id = try shop.manage("packed", "available")
        let clone = try shop.service.create(["source_volid": .string(id)])
        try shop.service.wait(clone, "available", seconds: 60)
        let same = try await shop.bash(
            "qemu-img compare -f qcow2 -F raw volume-\(id) volume-\(clone); cmp -n 67108864 plain volume-\(clone)")
        #expect(same.status == 0, "\(same.output)")
        // A snapshot's overlay is merged into compressed clusters.
        let snapshot = try SnapshotTests.snapshot(shop.service, of: id)
        try SnapshotTests.wait(shop.service, snapshot, "available")
        let written = try await shop.bash(
            "qemu-io -f qcow2 -c 'write -q -P 7 100k 3M' -c 'write -q -z 9M 1M' volume-\(id).\(snapshot)")
        #expect(written.status == 0, "\(written.output)")
        #expect(try shop.service.api("DELETE", "/snapshots/\(snapshot)").status == 202)
        try SnapshotTests.wait(shop.service, snapshot, nil)
        let merged = try await shop.bash(
            "qemu-io -f raw -c 'write -q -P 7 100k 3M' -c 'write -q -z 9M 1M' volume-\(clone); "
                + "qemu-img compare -f qcow2 -F raw volume-\(id) volume-\(clone)")
        #expect(merged.status == 0, "\(merged.output)")
        try await shop.expectOrder("volume-\(id)")
        // Another compression is refused by its name, and the file is left.
        _ = try shop.manage("zstd", "error")
        #expect(shop.service.log.contains("its clusters are compressed with zstd"))
        #expect(access(shop.export + "/zstd", F_OK) == 0)
        try shop.remove([id, clone])
        _ = try await shop.bash("rm plain zstd")
    }

    @Test("a qcow2 file that grows past its table of tables leaves no cluster unused")
    func growth() async throws {
        let shop = try Shop()
        let made = try await shop.bash(
            "for size in 4k 64k; do qemu-img create -q -f qcow2 -o cluster_size=$size of-$size 1G; qemu-io -f qcow2 -c 'write -q -P 5 1023M 1M' of-$size; done"
        )
        #expect(made.status == 0, "\(made.output)")
        let ids = try ["of-4k", "of-64k"].map { try shop.manage($0, "available") }
        for size in [3, 40] {
            for id in ids {
                #expect(try MoveTests.action(shop.service, id, "os-extend", ["new_size": JSON(size)]).status == 202)
                try shop.service.wait(id, "available")
                try await shop.expectOrder("volume-\(id)")
                let read = try await shop.bash("qemu-io -f qcow2 -c 'read -P 5 1023M 1M' -c 'read -P 0 1G 1M' volume-\(id)")
                #expect(read.status == 0 && !read.output.contains("failed"), "\(read.output)")
            }
        }
        try shop.remove(ids)
    }

    @Test("headers and tables that a stranger wrote end no driver: the file is listed, and refused when it is to be taken over")
    func strangers() async throws {
        let shop = try Shop()
        // The name, where its bytes are changed, and what is said of it.
        let changes: [(name: String, offset: Int, bytes: [UInt8], reason: String)] = [
            ("backing", 8, [UInt8](repeating: 255, count: 12), "lies outside of its header"),
            ("size", 24, [UInt8](repeating: 255, count: 8), "its header says that it has 18446744073709551615 bytes"),
            ("l1", 40, [UInt8](repeating: 255, count: 8), "a table of it lies at 18446744073709551615"),
            ("counts", 48, [UInt8](repeating: 255, count: 8), "a table of it lies at 18446744073709551615"),
            ("many", 36, [255, 255, 255, 255], "its tables are too large"),
            ("few", 36, [0, 0, 0, 1], "its table of tables is too small"),
            ("encrypted", 32, [0, 0, 0, 2], "it is encrypted"), ("version", 4, [0, 0, 0, 2], "its qcow2 version is 2"),
            ("snapshots", 60, [0, 0, 0, 1], "it has snapshots of its own"),
            ("clusters", 20, [0, 0, 0, 63], "its clusters have 2^63 bytes"),
            ("features", 72, [128, 0, 0, 0, 0, 0, 0, 0], "it has features that are not known here"),
            // The guest's first cluster is the header; its second the table that says so.
            ("header", 0x4_0000, [128, 0, 0, 0, 0, 0, 2, 0], "a cluster lies at 512"),
            ("twice", 0x4_0000, [128, 0, 0, 0, 0, 4, 0, 0], "the cluster at 262144 is used twice"),
            ("behind", 0x4_0000, [128, 255, 255, 255, 255, 255, 0, 0], "a cluster lies at"),
            ("packed", 0x4_0000, [127, 255, 255, 255, 255, 255, 255, 255], "a compressed cluster lies at"),
        ]
        let made = try await shop.bash(
            "qemu-img create -q -f qcow2 model 1500M; qemu-io -f qcow2 -c 'write -q -P 5 0 64k' model; "
                + changes.map { "cp model \($0.name)" }.joined(separator: "; "))
        #expect(made.status == 0, "\(made.output)")
        for change in changes {
            let file = open(shop.export + "/" + change.name, O_WRONLY | O_CLOEXEC)
            #expect(pwrite(file, change.bytes, change.bytes.count, off_t(change.offset)) == change.bytes.count)
            close(file)
        }
        let listed = try shop.service.api("GET", "/manageable_volumes?host=node@nfs%23nfs")
        #expect(listed.json["manageable-volumes"]?.array?.count == changes.count + 1, "\(listed.text)")
        for change in changes {
            _ = try shop.manage(change.name, "error")
            let line = shop.service.log.split(separator: "\n").first { $0.contains("/\(change.name) ") || $0.contains(" \(change.name) ") }
            #expect(shop.service.log.contains(change.reason), "\(change.name): \(line ?? "")")
            #expect(access(shop.export + "/" + change.name, F_OK) == 0, "\(change.name) has another name")
        }
        #expect(shop.service.log.components(of: "backend is up") == 1, "a host ended")
        let model = try shop.manage("model", "available")
        try shop.remove([model])
        _ = try await shop.bash("rm \(changes.map(\.name).joined(separator: " "))")
    }
}

extension String {
    fileprivate func components(of text: String) -> Int { split(separator: "\n").count { $0.contains(text) } }
}
