import DriverHost
import Flows
import Logging
import Settings
import Testing

@Suite("The stores of backups of a node")
struct BackupStoreHostsTests {
    private let log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    private func stores(_ text: String) throws -> BackupStoreHosts {
        try BackupStoreHosts(Settings(text: text), stateDirectory: "/state", log: log)
    }

    @Test("each has its plugin, its options and a directory of its own; the first is the one for those that ask for none")
    func configured() throws {
        let stores = try stores(
            """
            [DEFAULT]
            enabled_backup_stores = near, far
            storage_availability_zone = here
            [near]
            backup_driver = cinder.backup.drivers.posix.PosixBackupDriver
            backup_posix_path = /srv/backups
            [far]
            backup_driver = glusterfs
            backup_availability_zone = there
            """)
        #expect(stores.stores.map(\.name) == ["near", "far"] && stores.stores.map(\.zone) == ["here", "there"])
        let near = try #require(stores.store("near")).configuration
        #expect(near.kind == .store && near.pluginPath.hasSuffix("/libClinkerBackupPOSIX.so"))
        #expect(near.options["backup_posix_path"]?.string == "/srv/backups" && near.options["backend"]?.string == "near")
        #expect(near.options["state_dir"]?.string == "/state/backups/near")
        #expect(stores.store("far")?.configuration.pluginPath == near.pluginPath && stores.store("none") == nil)
        #expect(stores.missing == nil)
        #expect(
            stores.stores.map(\.service) == [
                "cinder.backup.drivers.posix.PosixBackupDriver", "cinder.backup.drivers.glusterfs.GlusterfsBackupDriver",
            ])
        #expect(stores.stores.allSatisfy { $0.format == "cinder" && $0.formatOptions["backup_file_size"]?.integer == 1_999_994_880 })
    }

    @Test(
        "two stores in one directory are refused, however it is written",
        arguments: [("/nowhere/b", "/nowhere/b"), ("/nowhere/b", "/nowhere//./b/"), ("/usr/lib", "/usr/bin/../lib")])
    func sharedDirectory(near: String, far: String) throws {
        func text(_ near: String, _ far: String) -> String {
            """
            [DEFAULT]
            enabled_backup_stores = near, far
            [near]
            backup_driver = posix
            backup_posix_path = \(near)
            [far]
            backup_driver = posix
            backup_posix_path = \(far)
            """
        }
        let error = #expect(throws: SettingsError.self) { try stores(text(near, far)) }
        #expect(error?.problems == ["[far] backup_posix_path = \(far) is the directory of the store near: give each store one of its own"])
        #expect(try stores(text(near, "/nowhere/c")).stores.count == 2)
    }

    @Test("Cinder's options of a bucket say how large the objects of its format are")
    func buckets() throws {
        let s3 = try stores(
            "[DEFAULT]\nbackup_driver = cinder.backup.drivers.s3.S3BackupDriver\nbackup_s3_object_size = 1048576\nbackup_s3_block_size = 65536\n"
        )
        let options = try #require(s3.stores.first?.formatOptions)
        #expect(options["backup_file_size"]?.integer == 1_048_576 && options["backup_sha_block_size_bytes"]?.integer == 65_536)
        #expect(s3.stores.first?.service == "cinder.backup.drivers.s3.S3BackupDriver")
        let swift = try stores("[DEFAULT]\nbackup_driver = swift\nbackup_s3_object_size = 1048576\n")
        #expect(swift.stores.first?.formatOptions["backup_file_size"]?.integer == 1_999_994_880)
    }

    @Test("Cinder's Ceph driver is the store with images, by its Python path and its plain names")
    func ceph() throws {
        for name in ["ceph", "rbd", "cinder.backup.drivers.ceph", "cinder.backup.drivers.ceph.CephBackupDriver"] {
            let store = try #require(
                try stores("[DEFAULT]\nbackup_driver = \(name)\nbackup_ceph_pool = here\n").stores.first)
            #expect(store.service == "cinder.backup.drivers.ceph.CephBackupDriver" && store.format == "cinder")
            #expect(store.configuration.pluginPath.hasSuffix("/libClinkerBackupRBD.so"))
            #expect(store.configuration.options["backup_ceph_pool"]?.string == "here")
        }
    }

    @Test("a store of a section whose plugin is not there is refused; Cinder's in [DEFAULT] is told")
    func missing() throws {
        #expect { try stores("[DEFAULT]\nenabled_backup_stores = a\n[a]\nbackup_driver = tape\n") } throws: {
            "\($0)".contains("[a] backup_driver = tape: no such plugin in")
        }
        let cinder = try stores("[DEFAULT]\nbackup_driver = cinder.backup.drivers.gcs.GoogleBackupDriver\n")
        #expect(cinder.stores.isEmpty && cinder.missing?.hasPrefix("[DEFAULT] backup_driver = cinder.backup.drivers.gcs") == true)
        #expect(try stores("[DEFAULT]\n").stores.isEmpty)
        let own = try stores("[DEFAULT]\nbackup_driver = posix\n")
        #expect(
            own.stores.map(\.name) == ["default"] && own.stores[0].configuration.options["state_dir"]?.string == "/state/backups/default")
    }
}
