import Glibc
import Primitives
import TestSupport
import Testing

@testable import Settings
@testable import clinker

@Suite("Settings")
struct SettingsTests {
    @Test("an operator's cinder.conf is read: sections, comments, continued and repeated lines, substitution")
    func operatorsFile() throws {
        let settings = try Settings(
            text: """
                # a comment
                [DEFAULT]
                state_path = /srv/clinker
                enabled_backends = one, two
                host: node1
                [database]
                connection = sqlite:///$state_path/db
                [cors]
                allowed_origin = https://a
                allowed_origin = https://b
                [one]
                volume_driver = file
                file_directory = ${state_path}/one
                some_driver_option = a,
                  b
                [two]
                volume_driver = "rbd"
                [backend_defaults]
                reserved_percentage = 7
                """)
        #expect(settings[Options.service.enabledBackends] == ["one", "two"])
        #expect(settings[Options.service.host] == "node1")
        #expect(settings[Options.service.connection].reveal() == "sqlite:////srv/clinker/db")
        #expect(settings[Options.service.allowedOrigin] == ["https://a", "https://b"])
        #expect(settings.backendOptions("one").contains { $0 == ("file_directory", "/srv/clinker/one") })
        #expect(settings[Options.backend.driver, backend: "two"] == "rbd")
        #expect(settings[Options.backend.reservedPercentage, backend: "two"] == 7)
        #expect(settings.backendOptions("one").map(\.name).contains("some_driver_option"))
        #expect(settings.warnings.isEmpty)
        #expect(settings[Options.service.listenPort] == 8776)
    }

    @Test(
        "a value of the wrong type or out of range names the line, the option and the rule",
        arguments: [
            ("osapi_volume_listen_port = banana", "must be an integer"), ("osapi_volume_listen_port = 99999", "between 0 and 65535"),
            ("auth_strategy = magic", "one of noauth, keystone"), ("debug = perhaps", "true or false"),
            ("public_endpoint = not a url", "a URL such as"), ("public_endpoint = cinder.example", "a URL such as"),
            ("quota_volumes = -2", "between -1"),
        ])
    func badValues(line: String, rule: String) {
        #expect { try Settings(text: "[DEFAULT]\n\(line)\n", name: "x.conf", known: .clinker) } throws: {
            let text = "\($0)"
            return text.contains(rule) && text.contains("x.conf:2") && text.contains(line.split(separator: " ")[0])
        }
    }

    @Test(
        "a value that refers to itself, or grows without end, is refused at once",
        arguments: [
            ("host = " + String(repeating: "${host}", count: 30), "[DEFAULT] host refers to itself: $host"),
            ("host = $my_ip\nmy_ip = ${host}", "[DEFAULT] host refers to itself: $my_ip, $host"),
            ("a = $b\nb = $a\n[one]\nfile_directory = $a", "[one] file_directory refers to itself: $a, $b, $a"),
            ("[one]\nof_a_driver = $host\n[DEFAULT]\nhost = $host", "[one] of_a_driver refers to itself: $host, $host"),
            // Nothing but references: what they come to is short, finding out is not.
            (
                (0..<60).map { "a\($0) = $a\($0 + 1)$a\($0 + 1)" }.joined(separator: "\n") + "\na60 =\nhost = $a0",
                "[DEFAULT] host has more than 1000 references"
            ),
            (
                "big = " + String(repeating: "b", count: 40_000) + "\nhost = $big$big",
                "[DEFAULT] host is longer than 65536 bytes with its references"
            ),
        ])
    func endlessReferences(lines: String, problem: String) {
        #expect { try Settings(text: "[DEFAULT]\nenabled_backends = one\n[one]\n[DEFAULT]\n\(lines)\n", name: "x.conf") } throws: {
            "\($0)".contains(problem)
        }
    }

    @Test("the largest body has a former name, which the present one goes before")
    func largestBody() throws {
        #expect(try Settings(text: "[DEFAULT]\nhost = a\n").maxBody == 114_688)
        #expect(try Settings(text: "[DEFAULT]\nosapi_max_request_body_size = 5000\n").maxBody == 5000)
        let both = "[DEFAULT]\nosapi_max_request_body_size = 5000\n[oslo_middleware]\nmax_request_body_size = 6000\n"
        #expect(try Settings(text: both).maxBody == 6000)
    }

    @Test("an option of a section may refer to its namesake in [DEFAULT]")
    func namesake() throws {
        let settings = try Settings(text: "[DEFAULT]\nvolume_driver = rbd\nenabled_backends = one\n[one]\nvolume_driver = $volume_driver\n")
        #expect(settings[Options.backend.driver, backend: "one"] == "rbd")
    }

    @Test("every problem is told, not only the first")
    func allProblems() {
        #expect {
            try Settings(text: "[DEFAULT]\ndebug = maybe\nquota_volumes = many\nenabled_backends = ghost\n", known: .clinker)
        } throws: {
            ($0 as? SettingsError)?.problems.count == 3
        }
        #expect { try Settings(text: "nonsense\n[open\n") } throws: { ($0 as? SettingsError)?.problems.count == 2 }
    }

    @Test("a misspelt option is a warning that names the nearest known one; an option of Cinder's is none")
    func misspelt() throws {
        let settings = try Settings(
            text: "[DEFAULT]\nosapi_volume_listen_prot = 1\nbackup_workers = 2\n[database]\nconection = x\n", known: .clinker)
        #expect(settings.warnings.count == 2 && settings.notServed.isEmpty)
        #expect(settings.warnings.contains { $0.contains("osapi_volume_listen_prot") && $0.contains("osapi_volume_listen_port") })
        #expect(settings.warnings.contains { $0.contains("[database] connection") })
    }

    @Test(
        "a misspelt name is told in every section that is known",
        arguments: [
            ("keystone_authtoken", "usernam", "username"), ("keystone_authtoken", "auth_urll", "auth_url"),
            ("nova", "regin_name", "region_name"),
            ("oslo_policy", "policy_fil", "policy_file"), ("oslo_middleware", "max_request_body_siz", "max_request_body_size"),
            ("DEFAULT", "scheduler_default_filter", "scheduler_default_filters"),
        ])
    func misspeltAnywhere(section: String, name: String, meant: String) throws {
        let settings = try Settings(text: "[\(section)]\n\(name) = x\n", name: "x.conf", known: .clinker)
        #expect(settings.unknown == ["x.conf:2: unknown option [\(section)] \(name); did you mean [\(section)] \(meant)?"])
    }

    @Test("a section that nobody knows is told, one of a backend that is not enabled is not")
    func sections() throws {
        let settings = try Settings(
            text:
                "[DEFAULT]\nenabled_backends = fast\n[fast]\nvolume_driver = file\n[fats]\nreserved_percentage = 1\n[old]\nvolume_driver = x\n"
        )
        #expect(settings.unknown == ["text:6: unknown section [fats]; did you mean [fast]?"])
    }

    @Test("an option of Cinder's that is not served is told; one whose silence would do harm is refused")
    func notServed() throws {
        let settings = try Settings(
            text:
                "[DEFAULT]\napi_enable_ssl = true\nimage_upload_use_cinder_backend = true\nosapi_volume_use_ssl = false\n[key_manager]\napi_class = x\n",
            known: .clinker)
        #expect(settings.unknown.isEmpty && settings.notServed.count == 3)
        for harmful in ["cluster = c1"] {
            #expect { try Settings(text: "[DEFAULT]\n\(harmful)\n") } throws: { "\($0)".contains("not served by this release") }
        }
    }

    @Test("what Cinder reads and Clinker has no use for is told in one line, and a backend's option in [DEFAULT] with the place for it")
    func withoutEffect() throws {
        let settings = try Settings(
            text: """
                [DEFAULT]
                image_volume_cache_max_count = -3
                backup_workers = 2
                executor_thread_pool_size = many
                rootwrap_config = /etc/cinder/rootwrap.conf
                num_shell_tries = 3
                rpc_backend =
                [oslo_messaging_notifications]
                retry = banana
                """, name: "x.conf", known: .clinker)
        #expect(
            settings.notServed == [
                "x.conf:2: [DEFAULT] image_volume_cache_max_count has no effect here: it belongs in the section of a backend, or in [backend_defaults]",
                "these options have no effect, since they tune what Clinker does not have: [DEFAULT] executor_thread_pool_size, num_shell_tries, rootwrap_config; [oslo_messaging_notifications] retry",
            ])
        #expect(settings.unknown.isEmpty)
        #expect(
            try Settings(
                text: "[DEFAULT]\nenabled_backends = a\n[a]\nvolume_driver = file\nimage_volume_cache_max_count = 3\n", known: .clinker
            ).warnings.isEmpty)
    }

    @Test("stores of backups are those that are enabled, with sections of their own, or the one of [DEFAULT]")
    func stores() throws {
        let one = try Settings(
            text:
                "[DEFAULT]\nbackup_driver = cinder.backup.drivers.posix.PosixBackupDriver\nbackup_posix_path = /b\nglusterfs_backup_share = s\nhost = h\n"
        )
        #expect(one.backupStores == ["default"] && one.warnings.isEmpty)
        #expect(one.storeOptions("default").map(\.name) == ["backup_driver", "backup_posix_path", "glusterfs_backup_share"])
        #expect(one[Options.store.driver, store: "default"] == "cinder.backup.drivers.posix.PosixBackupDriver")
        #expect(one[Options.store.format, store: "default"] == "cinder")

        let two = try Settings(
            text: """
                [DEFAULT]
                enabled_backup_stores = near, far
                backup_compression_algorithm = zstd
                backup_posix_path = /b
                [near]
                backup_driver = posix
                backup_format = repository
                [far]
                backup_driver = posix
                backup_compression_algorithm = none
                backup_posix_path = /far
                [old]
                backup_driver = posix
                """)
        #expect(two.backupStores == ["near", "far"] && two.warnings.isEmpty)
        #expect(["near", "far"].map { two[Options.store.compression, store: $0] } == ["zstd", "none"])
        #expect(["near", "far"].map { two[Options.store.format, store: $0] } == ["repository", "cinder"])
        #expect(two.storeOptions("near").contains { $0 == ("backup_posix_path", "/b") })
        #expect(two.storeOptions("far").contains { $0 == ("backup_posix_path", "/far") })
        #expect(try Settings(text: "[DEFAULT]\n").backupStores.isEmpty)
    }

    @Test(
        "what is wrong with a store is said by its section",
        arguments: [
            ("enabled_backup_stores = a\n", "enabled_backup_stores names 'a', but there is no section [a]"),
            ("enabled_backup_stores = a\n[a]\nbackup_container = c\n", "[a] backup_driver is not set"),
            ("enabled_backup_stores = a, a\n[a]\nbackup_driver = posix\n", "names a store twice"),
            (
                "enabled_backends = a\nenabled_backup_stores = a\n[a]\nbackup_driver = posix\nvolume_driver = file\n",
                "[a] is a backend and a store of backups"
            ),
            ("enabled_backup_stores = a\n[a]\nbackup_driver = posix\nbackup_format = tar\n", "[a] backup_format must be one of"),
            ("backup_driver = posix\nbackup_compression_algorithm = lzma\n", "[DEFAULT] backup_compression_algorithm must be one of"),
            ("backup_driver = posix\nbackup_file_size = 100000\n", "[DEFAULT] backup_file_size must be a multiple"),
        ])
    func wrongStores(text: String, words: String) {
        #expect { try Settings(text: "[DEFAULT]\n" + text) } throws: { "\($0)".contains(words) }
    }

    @Test("a store's options are known by what its plugin declares, in its section and in [DEFAULT]")
    func storeOptions() throws {
        func option(_ name: String, _ type: String, unused reason: String? = nil) -> OptionDeclaration {
            .ofDriver(
                name, typeName: reason == nil ? type : OptionDeclaration.unused, defaultText: "", range: nil, choices: nil,
                help: reason ?? "")
        }
        let options = [
            option("backup_posix_path", "text"), option("backup_posix_require_mount", Bool.typeName),
            option("glusterfs_backup_share", "text", unused: "mount it"),
        ]
        let named = try Settings(
            text: """
                [DEFAULT]
                enabled_backup_stores = a
                glusterfs_backup_share = s
                [a]
                backup_driver = posix
                backup_posix_pth = /x
                backup_posix_require_mount = perhaps
                glusterfs_backup_share = s
                backup_swift_url = http://x
                """)
        let found = named.examine(store: "a", plugin: "posix", options: options)
        #expect(found.unknown == ["text:6: unknown option [a] backup_posix_pth; did you mean backup_posix_path?"])
        #expect(found.problems.count == 1 && found.problems[0].contains("[a] backup_posix_require_mount"))
        #expect(
            found.notServed == [
                "text:9: [a] backup_swift_url has no effect: the store posix does not read it",
                "text:8: [a] glusterfs_backup_share has no effect: mount it",
            ])
        let unnamed = try Settings(
            text:
                "[DEFAULT]\nbackup_driver = posix\nglusterfs_backup_share = s\nbackup_posix_require_mount = perhaps\nbackup_swift_url = http://x\n"
        )
        let all = unnamed.examine(store: "default", plugin: "posix", options: options)
        #expect(all.problems.count == 1 && all.unknown.isEmpty)
        #expect(all.notServed == ["text:3: [DEFAULT] glusterfs_backup_share has no effect: mount it"])
    }

    @Test("carriage returns and a byte order mark are no part of values")
    func foreignEditors() throws {
        let settings = try Settings(
            text:
                "\u{FEFF}[DEFAULT]\r\nhost = a\r\nenabled_backends = one,\r\n  two\r\n[one]\r\nvolume_driver = x\r\n[two]\r\nvolume_driver = x\r\n"
        )
        #expect(
            settings[Options.service.host] == "a" && settings[Options.service.enabledBackends] == ["one", "two"]
                && settings.warnings.isEmpty)
    }

    @Test("a driver's options are known by what it declares: names, values, and what it does not read")
    func driverOptions() throws {
        let settings = try Settings(
            text: """
                [DEFAULT]
                enabled_backends = one
                [one]
                volume_driver = some
                some_deph = 3
                some_depth = -3
                some_mode = maybe
                nas_host = x
                reserved_percentage = 3
                """, name: "x.conf")
        let found = settings.examine(
            backend: "one", driver: "some",
            options: [
                .ofDriver("some_depth", typeName: Int.typeName, defaultText: "1", range: 0...5, choices: nil, help: "x"),
                .ofDriver("some_mode", typeName: String.typeName, defaultText: "", range: nil, choices: ["auto", "true"], help: "x"),
            ])
        #expect(
            found.problems == [
                "x.conf:6: [one] some_depth must be between 0 and 5, not -3",
                "x.conf:7: [one] some_mode must be one of auto, true, not 'maybe'",
            ])
        #expect(found.unknown == ["x.conf:5: unknown option [one] some_deph; did you mean some_depth?"])
        #expect(found.notServed == ["x.conf:8: [one] nas_host has no effect: the driver some does not read it"])
    }

    @Test("an option that a driver declares to be without effect is told with the driver's reason, by a check as at the start")
    func unusedOptions() throws {
        let settings = try Settings(
            text: """
                [DEFAULT]
                enabled_backends = one
                [backend_defaults]
                nas_login = y
                [one]
                volume_driver = some
                nas_login = x
                nas_password =
                """, name: "x.conf")
        let found = settings.examine(
            backend: "one", driver: "some",
            options: ["nas_login", "nas_password"].map {
                .ofDriver($0, typeName: OptionDeclaration.unused, defaultText: "", range: nil, choices: nil, help: "nobody logs in")
            })
        let told = ["x.conf:7: [one] nas_login has no effect: nobody logs in"]
        #expect(found.problems.isEmpty && found.unknown.isEmpty && found.notServed == told)
        let names = ["nas_login", "nas_password"]
        #expect(settings.notRead(ofBackend: "one", by: "some", reading: names, unused: ["nas_login": "nobody logs in"]) == told)
    }

    @Test("a file that is missing is one clear line")
    func missing() {
        #expect { try Settings(files: ["/nonexistent/clinker.conf"]) } throws: {
            "\($0)" == "cannot read the configuration file /nonexistent/clinker.conf: No such file or directory"
        }
    }

    @Test("every option has help, and a default within its own limits")
    func declarations() throws {
        for option in OptionCatalogue.clinker.all {
            #expect(!option.help.isEmpty)
            if option.typeName != "secret", option.typeName != "list" { try option.check(option.defaultText) }
        }
        let names = OptionCatalogue.clinker.all.map { $0.sectionName + "." + $0.name }
        #expect(Set(names).count == names.count)
        // Every declaration in the sources is among them: a group that nobody put into the catalogue would be missing.
        #expect(names.count == (try Self.declarationsInSources()))
    }

    /// How many options the groups in the sources declare.
    private static func declarationsInSources() throws -> Int {
        let root = #filePath.split(separator: "/").dropLast(3).map { "/" + $0 }.joined() + "/Sources"
        return try swiftFiles(below: root).filter { $0.hasSuffix("Options.swift") }.map { path in
            let text = try contents(path)
            guard text.contains(": DeclaredOptions {") else { return 0 }
            return text.split(separator: "\n").count { $0.hasPrefix("    public let ") }
        }.reduce(0, +)
    }

    private static func swiftFiles(below directory: String) -> [String] {
        entries(of: directory).flatMap { $0.hasSuffix(".swift") ? ["\(directory)/\($0)"] : swiftFiles(below: "\(directory)/\($0)") }
    }

    private static func contents(_ path: String) throws -> String {
        let file = try #require(fopen(path, "re"))
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        let count = fread(&bytes, 1, bytes.count, file)
        return String(decoding: bytes[..<count], as: UTF8.self)
    }
}
