import Glibc
import JSON
import Primitives
import Processes
import TestSupport
import Testing

/// A real storage server on loopback (Tests/Storage), started once for all tests.
final class StorageUnderTest: Sendable {
    /// What a directory of volumes holds. Cinder's sign that files are their owner's alone stays for the next who looks, and so do stores.
    static func volumes(in directory: String) -> [String] {
        ServiceUnderTest.entries(directory).filter { $0 != ".cinderSecureEnvIndicator" && $0 != "stores" }
    }

    static let ceph = Result { try StorageUnderTest("ceph") }
    static let nfs = Result { try StorageUnderTest("nfs") }
    /// Another server, at an address of IPv6.
    static let otherNFS = Result { try StorageUnderTest("nfs", environment: ["NFS_ADDRESS=::1"]) }

    /// One that lets nobody write.
    static let readOnlyNFS = Result { try StorageUnderTest("nfs", environment: ["NFS_ACCESS=RO"]) }
    /// One with a disk of 16 MiB.
    static let smallNFS = Result { try StorageUnderTest("nfs", environment: ["NFS_SIZE=16m"]) }
    /// Servers of objects: S3's of moto, and OpenStack Swift with its S3.
    static let moto = Result { try StorageUnderTest("moto") }
    static let swift = Result { try StorageUnderTest("swift") }

    let directory: String
    let port: Int
    private let program: ServerProgram

    private init(_ kind: String, environment: [String] = []) throws {
        directory = temporaryDirectory(kind, elseRemovesIt: true)
        let script = ServiceUnderTest.root + "/Tests/Storage/serve"
        // The servers take some ports in a row.
        port = Int(try Loopback.freePort()) % 20_000 + 10_000
        program = try ServerProgram(
            kind, ["/usr/bin/env"] + environment + [script, kind, directory, "\(port)"], in: directory, seconds: 120)
    }

    /// Lines of a backend's section.
    static func rbdSection(_ more: String = "") throws -> String {
        let ceph = try ceph.get()
        return "volume_driver = rbd\nrbd_ceph_conf = \(ceph.directory)/ceph.conf\nrbd_pool = volumes\nrbd_user = cinder\n\(more)\n"
    }

    /// Makes a pool of images with a client of its own, which that of volumes may read, as an operator of Glance does. Returns the configuration.
    static func imagePool() throws -> String {
        let directory = try ceph.get().directory
        let command = """
            set -e
            export CEPH_CONF=\(directory)/ceph.conf
            printf '%s\n' 'osd pool create images 8' 'osd pool application enable images rbd' | ceph
            ceph auth get-or-create client.glance mon 'profile rbd' osd 'profile rbd pool=images' >> \(directory)/keyring
            ceph auth caps client.cinder mon 'profile rbd' mgr 'profile rbd pool=volumes' \
                osd 'profile rbd pool=volumes, profile rbd-read-only pool=images'
            """
        let child = try spawn("/bin/bash", ["-c", command], descriptors: [])
        guard reap(child) == 0 else { throw ServiceUnderTest.Failure("no pool of images") }
        return directory + "/ceph.conf"
    }

    /// A store of backups in a pool, as lines of a section; an option that is given takes the place of the usual one.
    static func cephStore(_ option: String = "") throws -> String {
        let ceph = try ceph.get()
        let usual = ["backup_ceph_conf = \(ceph.directory)/ceph.conf", "backup_ceph_pool = backups", "backup_ceph_user = cinder-backup"]
        let given = option.split(separator: " ").first ?? "none"
        return "backup_driver = ceph\n" + (usual.filter { !$0.hasPrefix(given) } + [option]).joined(separator: "\n")
    }

    static func nfsSection(_ more: String = "") throws -> String {
        let nfs = try nfs.get()
        return "volume_driver = nfs\nnfs_shares_config = \(nfs.directory)/shares\nnfs_snapshot_support = true\n\(more)\n"
    }

    /// A store of backups in a directory of a server's share, which is made; as lines of a section.
    func nfsStore(_ name: String, port: Int? = nil, options more: String = "") throws -> String {
        mkdir(directory + "/export/stores", 0o700)
        mkdir(nfsStoreDirectory(name), 0o700)
        let words = try ServiceUnderTest.read(directory + "/shares").split(whereSeparator: \.isWhitespace).map(String.init)
        guard words.count == 2 else { throw ServiceUnderTest.Failure("no share in \(directory)/shares") }
        var options = words[1].split(separator: ",").map(String.init)
        if let port { options = ["port=\(port)"] + options.filter { !$0.hasPrefix("port=") } }
        return """
            backup_driver = nfs
            backup_share = \(words[0])/stores/\(name)
            backup_mount_options = \((options + (more.isEmpty ? [] : [more])).joined(separator: ","))
            """
    }

    func nfsStoreDirectory(_ name: String) -> String { "\(directory)/export/stores/\(name)" }

    /// Where the server listens.
    var nfsPort: Int {
        get throws {
            let port = try ServiceUnderTest.read(directory + "/shares").split(separator: "port=")[1].prefix(while: \.isNumber)
            return Int(port) ?? 0
        }
    }

    /// Lines of a store's section: a bucket of moto's, or one of Swift's S3.
    static func s3Section(_ more: String = "", bucket: String = "backups", port: Int? = nil) throws -> String {
        let port = try port ?? moto.get().port
        return
            "backup_driver = s3\nbackup_s3_endpoint_url = http://127.0.0.1:\(port)\nbackup_s3_store_access_key = test:tester\nbackup_s3_store_secret_key = testing\nbackup_s3_store_bucket = \(bucket)\n\(more)\n"
    }

    static func swiftSection(_ more: String = "", container: String = "backups", port: Int? = nil) throws -> String {
        let port = try port ?? swift.get().port
        return
            "backup_driver = swift\nbackup_swift_auth = single_user\nbackup_swift_auth_url = http://127.0.0.1:\(port)/auth/v1.0\nbackup_swift_user = test:tester\nbackup_swift_key = testing\nbackup_swift_container = \(container)\nbackup_swift_retry_backoff = 1\n\(more)\n"
    }

    /// The same as arguments of `clinker driver check`.
    static func arguments(_ section: String) -> [String] {
        let lines = section.split(separator: "\n").map(String.init)
        return [String(lines[0].split(separator: " ").last ?? "")]
            + lines.dropFirst().flatMap {
                ["--set", $0.split(separator: "=", maxSplits: 1).map { $0.filter { $0 != " " } }.joined(separator: "=")]
            }
    }
}
