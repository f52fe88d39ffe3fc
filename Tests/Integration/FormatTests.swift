import Glibc
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
        #expect(ServiceUnderTest.entries(folder).isEmpty && ServiceUnderTest.entries(nfs.directory + "/export") == ["qcow2"])
    }
}
