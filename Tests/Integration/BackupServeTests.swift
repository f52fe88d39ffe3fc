import Glibc
import JSON
import Primitives
import Processes
import TestSupport
import Testing

/// Backups that are read over NBD, at once and without being restored: by `clinker backup serve` and by the action `clinker:serve`.
@Suite("Backups over NBD", .serialized)
struct BackupServeTests {
    /// Serves a backup by the command while the body runs; what it said meanwhile.
    @discardableResult
    private func serving(_ volumes: BackedUpVolumes, _ id: String, _ body: (_ uri: String, _ pid: pid_t) async throws -> Void) async throws
        -> String
    {
        let socket = volumes.service.directory + "/nbd"
        let output = volumes.service.directory + "/nbd-output"
        let file = open(output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        let pid = try spawn(
            ServiceUnderTest.binary,
            ["backup", "serve", id, "--socket", socket, "--config", volumes.service.configuration, "--state-dir", volumes.service.state],
            descriptors: [(source: file, target: 1), (source: file, target: 2)])
        close(file)
        defer {
            kill(pid, SIGTERM)
            reap(pid)
            #expect(access(socket, F_OK) != 0, "the socket is still there")
        }
        let limit = Timestamp.monotonic() + 20
        while !(try ServiceUnderTest.read(output)).contains("serving") {
            guard Timestamp.monotonic() < limit else { throw ServiceUnderTest.Failure(try ServiceUnderTest.read(output)) }
            usleep(10_000)
        }
        try await body("nbd+unix:///?socket=\(socket)", pid)
        return try ServiceUnderTest.read(output)
    }

    /// The locks in repositories.
    private func locks(_ volumes: BackedUpVolumes) async throws -> [String] { try await volumes.objects("-path", "*/locks/*") }

    private func expect(_ volumes: BackedUpVolumes, _ command: String) async throws {
        let done = try await volumes.shell(command)
        #expect(done.status == 0, "\(command): \(done.output)")
    }

    @Test("a full backup and an increment are what the volume was, byte for byte", arguments: ["cinder", "repository"])
    func bytes(format: String) async throws {
        let volumes = try BackedUpVolumes(format: format)
        let id = try volumes.volume(seed: 1)
        let full = try volumes.backup(id)
        let before = try await volumes.copy(id)
        try volumes.fill(id, seed: 2, at: [5 << 20, 700 << 20])
        let increment = try volumes.backup(id, incremental: true)
        for (backup, original) in [(full, before), (increment, volumes.path(id))] {
            try await serving(volumes, backup) { uri, _ in
                try await expect(volumes, "qemu-img compare -f raw -F raw '\(original)' '\(uri)'")
                // In no order, over several clients at once. (What is skipped counts, too.)
                try await expect(
                    volumes,
                    """
                    set -e
                    for offset in 1073676288 0 314572800 5242880 734003200 1000; do
                      qemu-img dd -f raw -O raw bs=512 skip=$((offset / 512)) count=$((offset / 512 + 64)) if='\(uri)' of=part-$offset &
                    done
                    wait
                    for offset in 1073676288 0 314572800 5242880 734003200 1000; do
                      cmp -n 32256 part-$offset <(tail -c +$((offset / 512 * 512 + 1)) '\(original)')
                    done
                    """)
                let refused = try await volumes.shell("qemu-io -f raw -c 'write 0 4k' '\(uri)'")
                #expect(refused.output.contains("read-only") || refused.output.contains("Permission"), "\(refused.output)")
            }
        }
        // Chunks of zeroes are holes for the client, too.
        guard format == "repository" else { return }
        #expect(try await locks(volumes).isEmpty)
        try await serving(volumes, full) { uri, _ in
            let map = try await volumes.shell("qemu-img map -f raw --output=json '\(uri)'")
            let data = (try JSON(parsing: map.output).array ?? []).filter { $0["data"] == true }
            #expect(data.reduce(Int64(0)) { $0 + ($1["length"]?.integer ?? 0) } < 8 << 20, "\(map.output)")
        }
        try await DoctorTests.expectNothing(volumes.service)
    }

    @Test(
        "where an object is damaged its range gives an I/O error and a line that names it; the rest is read",
        arguments: ["cinder", "repository"])
    func damage(format: String) async throws {
        let volumes = try BackedUpVolumes(format: format)
        let id = try volumes.volume(seed: 3)
        let backup = try volumes.backup(id)
        let object: String
        if format == "cinder" {
            object = try #require(try await volumes.objects("-name", "*-00001").first)
        } else {
            object = try #require(try await volumes.objects("-path", "*/data/*", "-size", "+100k").first)
        }
        try volumes.flip(object, at: 5_000)
        let said = try await serving(volumes, backup) { uri, _ in
            var failures = 0
            for offset in [0, 5 << 20, 300 << 20, (1 << 30) - 65_536] {
                let read = try await volumes.shell("qemu-io -r -f raw -c 'read -q \(offset) 65536' '\(uri)'")
                if read.output.contains("Input/output error") { failures += 1 } else { #expect(read.status == 0, "\(read.output)") }
            }
            #expect(failures == 1)
            try await expect(volumes, "qemu-io -r -f raw -c 'read -q 600M 64M' '\(uri)'")
        }
        let name = format == "cinder" ? "-00001" : String(object.split(separator: "/").last ?? "")
        #expect(said.contains(name), "\(said)")
    }

    @Test("it needs no running service, only what it keeps")
    func alone() async throws {
        let volumes = try BackedUpVolumes(format: "repository")
        let id = try volumes.volume(seed: 4)
        let backup = try volumes.backup(id)
        volumes.service.stop()
        try await serving(volumes, backup) { uri, _ in
            try await expect(volumes, "qemu-img compare -f raw -F raw '\(volumes.path(id))' '\(uri)'")
        }
        let unknown = try await volumes.clinker(
            "serve", "11111111-2222-4333-8444-555555555555", "--socket", volumes.service.directory + "/x")
        #expect(unknown.status == 2 && unknown.output.contains("could not be found"), "\(unknown.output)")
    }

    @Test("its memory stays bounded, however much is read", arguments: ["cinder", "repository"])
    func memory(format: String) async throws {
        let volumes = try BackedUpVolumes(format: format)
        let id = try volumes.volume(seed: 8, at: Array(stride(from: 0, to: 256 << 20, by: 1 << 20)))
        let backup = try volumes.backup(id)
        try await serving(volumes, backup) { uri, pid in
            try await expect(volumes, "qemu-img compare -f raw -F raw '\(volumes.path(id))' '\(uri)'")
            let lines = try ServiceUnderTest.read("/proc/\(pid)/status").split(separator: "\n")
            let peak = lines.first { $0.hasPrefix("VmHWM:") }?.split(separator: " ").compactMap { Int($0) }.first
            #expect(try #require(peak) < 128 << 10, "kB")
        }
    }

    // MARK: clinker:serve

    private func serve(_ volumes: BackedUpVolumes, _ id: String, seconds: Int? = nil) throws -> (
        answer: ServiceUnderTest.Answer, uri: String
    ) {
        let body: JSONObject = seconds.map { ["seconds": JSON($0)] } ?? [:]
        let answer = try volumes.service.api("POST", "/backups/\(id)/action", ["clinker:serve": .object(body)])
        return (answer, answer.json["clinker:serve"]?["address"]?.string ?? "")
    }

    private func waitForEnd(_ volumes: BackedUpVolumes, _ uri: String) async throws {
        let limit = Timestamp.monotonic() + 30
        while try await volumes.shell("qemu-img info -f raw '\(uri)'").status == 0 {
            guard Timestamp.monotonic() < limit else { throw ServiceUnderTest.Failure("\(uri) is still served: \(volumes.service.story)") }
            usleep(50_000)
        }
    }

    @Test("a user has a backup served: for a time, a limited number at once, and not beyond its deletion")
    func action() async throws {
        let volumes = try BackedUpVolumes(format: "repository", options: "backup_serve_limit = 2")
        let id = try volumes.volume(seed: 5)
        let backup = try volumes.backup(id)
        let short = try serve(volumes, backup, seconds: 1)
        #expect(short.answer.status == 200, "\(short.answer.text)")
        #expect(short.answer.json["clinker:serve"]?["expires_at"]?.string != nil)
        try await waitForEnd(volumes, short.uri)
        let served = [try serve(volumes, backup), try serve(volumes, backup)]
        for (_, uri) in served { try await expect(volumes, "qemu-img compare -f raw -F raw '\(volumes.path(id))' '\(uri)'") }
        let third = try serve(volumes, backup)
        #expect(third.answer.status == 409 && third.answer.message?.contains("at once") == true, "\(third.answer.text)")
        #expect(try volumes.service.api("DELETE", "/backups/\(backup)").status == 202)
        try BackupTests.wait(volumes.service, backup, nil)
        for (_, uri) in served { try await waitForEnd(volumes, uri) }
        #expect(volumes.service.processes("transfer").isEmpty)
        for seconds in [0, 604_801] {
            let refused = try volumes.service.api("POST", "/backups/\(backup)/action", ["clinker:serve": ["seconds": JSON(seconds)]])
            #expect(refused.status == 400, "\(refused.text)")
        }
        #expect(try serve(volumes, backup).answer.status == 404)
    }

    @Test(
        "a user ends what is served, and one project does not take all places; nothing stays locked", arguments: ["cinder", "repository"])
    func ending(format: String) async throws {
        let volumes = try BackedUpVolumes(format: format, options: "backup_serve_limit = 3")
        let id = try volumes.volume(seed: 9)
        let backup = try volumes.backup(id)
        let served = [try serve(volumes, backup), try serve(volumes, backup)]
        let third = try serve(volumes, backup)
        #expect(third.answer.status == 409 && third.answer.message?.contains("of the project") == true, "\(third.answer.text)")
        for (_, uri) in served { try await expect(volumes, "qemu-img compare -f raw -F raw '\(volumes.path(id))' '\(uri)'") }
        // Again when nothing is served any more, too.
        for _ in 0..<2 {
            let ended = try volumes.service.api("POST", "/backups/\(backup)/action", ["clinker:unserve": .null])
            #expect(ended.status == 202, "\(ended.text)")
            for (_, uri) in served { #expect(try await volumes.shell("qemu-img info -f raw '\(uri)'").status != 0) }
        }
        #expect(volumes.service.processes("transfer").isEmpty)
        #expect(try await locks(volumes).isEmpty)
        #expect(try serve(volumes, backup).answer.status == 200)
    }

    @Test("clients that connect and say nothing keep nobody from reading a backup")
    func silentClients() async throws {
        let volumes = try BackedUpVolumes(format: "repository", options: "backup_serve_address = 127.0.0.1")
        let id = try volumes.volume(seed: 10)
        let backup = try volumes.backup(id)
        let (answer, uri) = try serve(volumes, backup)
        #expect(answer.status == 200, "\(answer.text)")
        let port = String(uri.dropFirst("nbd://127.0.0.1:".count).prefix { $0 != "/" })
        try await expect(
            volumes,
            """
            set -e
            for number in $(seq 100); do exec {silent}<>/dev/tcp/127.0.0.1/\(port); done
            qemu-img compare -f raw -F raw '\(volumes.path(id))' '\(uri)'
            """)
    }

    @Test("what a core served ends with it, and leaves no socket behind")
    func death() async throws {
        let volumes = try BackedUpVolumes(format: "repository")
        let backup = try volumes.backup(try volumes.volume(seed: 6))
        let (answer, uri) = try serve(volumes, backup)
        #expect(answer.status == 200, "\(answer.text)")
        try await expect(volumes, "qemu-img info -f raw '\(uri)'")
        for core in volumes.service.processes("core") { kill(core, SIGKILL) }
        try await waitForEnd(volumes, uri)
        try volumes.service.waitUntilServing()
        while !volumes.service.processes("transfer").isEmpty { usleep(50_000) }
        #expect(try await locks(volumes).isEmpty)
        #expect(ServiceUnderTest.entries(volumes.service.state + "/serving").isEmpty)
        try volumes.waitForStore()
        #expect(try serve(volumes, backup).answer.status == 200)
    }

    @Test("served on an address, nobody reads a backup who does not know its name")
    func address() async throws {
        let volumes = try BackedUpVolumes(format: "repository", options: "backup_serve_address = 127.0.0.1")
        let id = try volumes.volume(seed: 7)
        let backup = try volumes.backup(id)
        let (answer, uri) = try serve(volumes, backup)
        #expect(answer.status == 200 && uri.hasPrefix("nbd://127.0.0.1:"), "\(answer.text)")
        try await expect(volumes, "qemu-img compare -f raw -F raw '\(volumes.path(id))' '\(uri)'")
        let nameless = String(uri.prefix(through: uri.lastIndex(of: "/")!))
        for wrong in [nameless, nameless + "other", String(uri.dropLast()) + "-"] {
            #expect(try await volumes.shell("qemu-img info -f raw '\(wrong)'").status != 0)
        }
        #expect(!volumes.service.log.contains(uri.suffix(64)), "the name stands in the log")
    }
}
