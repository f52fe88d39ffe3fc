import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// What an operator meets after the first day: backends that are taken out, configurations that change, commands without a service.
@Suite("Day two", .serialized)
struct DayTwoTests {
    private func configure(_ service: ServiceUnderTest, _ change: (String) -> String) throws {
        try ServiceUnderTest.write(service.configuration, change(try ServiceUnderTest.read(service.configuration)))
    }

    private func waitForLog(_ service: ServiceUnderTest, _ text: String) {
        let limit = Timestamp.monotonic() + 20
        while !service.log.contains(text), Timestamp.monotonic() < limit { usleep(20_000) }
        #expect(service.log.contains(text), "\(service.story)")
    }

    @Test("a backend that was taken out and holds volumes is told at the start; their deletion waits until it is back")
    func takenOut() throws {
        let service = try ServiceUnderTest(backends: "a", sections: "[a]\nvolume_driver = file\n[b]\nvolume_driver = file\n")
        let id = try service.create()
        try service.wait(id, "available")
        #expect(service.stop() == 0)
        try configure(service) { $0.replacing("enabled_backends = a", with: "enabled_backends = b") }
        try service.start()
        waitForLog(service, "no enabled backend is node@a, where 1 volumes lie")
        #expect(try service.api("DELETE", "/volumes/\(id)").status == 202)
        waitForLog(service, "an operation is left for the next start: no backend of this node serves node@a#files")
        #expect(try service.volume(id)?["status"] == "deleting")
        #expect(service.stop() == 0)
        try configure(service) { $0.replacing("enabled_backends = b", with: "enabled_backends = a, b") }
        try service.start()
        try service.wait(id, nil)
    }

    @Test("a backend that never came up is down from the first moment, and was never heard of")
    func neverUp() throws {
        let service = try ServiceUnderTest(
            backends: "file, lost", sections: "[file]\nvolume_driver = file\n[lost]\nvolume_driver = file\nfile_directory = relative\n")
        waitForLog(service, "backend is down: file_directory must be an absolute path")
        let lost = try service.api("GET", "/os-services?host=node@lost").json["services"]?.array?.first
        #expect(lost?["state"] == "down" && lost?["updated_at"] == .null && lost?["backend_state"] == "down")
    }

    @Test("what a configuration says in vain is told: at the start, and what only a restart brings into effect when it is read again")
    func told() throws {
        let service = try ServiceUnderTest(
            options: "default_volume_type = gold", sections: "[file]\nvolume_driver = file\nfile_directry = /x\nnas_host = y\n")
        waitForLog(service, "unknown option [file] file_directry; did you mean file_directory?")
        waitForLog(service, "[file] nas_host has no effect: the driver file does not read it")
        waitForLog(service, "default_volume_type = gold: there is no such type")
        try configure(service) { $0.replacing("host = node", with: "host = node\nquota_volumes = 7\ndebug = true") }
        service.signal(SIGHUP)
        waitForLog(service, "these options have changed and take effect at the next start: [DEFAULT] quota_volumes\n")
    }

    @Test(
        "a command that only looks makes no state directory",
        arguments: [["db", "check"], ["db", "backup", "/nonexistent/copy"], ["doctor"], ["operation", "list"], ["service", "list"]])
    func onlyLooking(command: [String]) async throws {
        let directory = temporaryDirectory("looking")
        let state = directory + "/none"
        let (status, output) = try await ServiceUnderTest.run(ServiceUnderTest.binary, command + ["--state-dir", state])
        #expect(status != 0 && output.contains("the state directory \(state) does not exist: no service ever ran here"), "\(output)")
        #expect(access(state, F_OK) != 0)
    }

    @Test("who asks for a volume from an image where no Image service is known is told so")
    func image() throws {
        let service = try ServiceUnderTest()
        let refused = try service.api("POST", "/volumes", ["volume": ["size": 1, "imageRef": "70a599e0-31e7-49b7-b260-868f441e862b"]])
        #expect(refused.status == 400 && refused.message?.contains("this service knows no Image service") == true)
    }

    @Test("the log goes to syslog and to the journal, with the lines of requests, and a service starts without either")
    func systemLog() throws {
        let service = try ServiceUnderTest(
            options: "use_syslog = true\nuse_journal = true\nsyslog_log_facility = local3\nuse_stderr = true", start: false)
        let (syslog, journal) = (service.directory + "/syslog", service.directory + "/journal")
        try service.launch(wrapper: ["/usr/bin/env", "CLINKER_SYSLOG_SOCKET=\(syslog)", "CLINKER_JOURNAL_SOCKET=\(journal)"])
        try service.waitUntilServing()
        #expect(service.log.contains("clinker: the log cannot be written to the socket \(syslog): No such file or directory"))
        let (daemon, reader) = (DatagramReader(syslog), DatagramReader(journal))
        // What was said before somebody listened is not lost.
        #expect(daemon.first(with: "INFO core serving")?.hasPrefix("<158>") == true)
        #expect(reader.first(with: "INFO core serving")?.contains("\nPRIORITY=6\n") == true)
        let answer = try service.api("GET", "/volumes/none?x=%0A")
        #expect(answer.status == 404)
        let id = answer.header("x-openstack-request-id") ?? "?"
        #expect(daemon.first(with: "request_id=\(id)")?.contains(" clinker[\(service.processes("core").first ?? 0)]: ACCESS ") == true)
        #expect(reader.first(with: "REQUEST_ID=\(id)")?.contains("\nLOGGER_NAME=clinker.api\n") == true)
        #expect(service.stop() == 0)
        #expect(daemon.first(with: "INFO core stopped") != nil)
        daemon.end()
        reader.end()
    }
}
