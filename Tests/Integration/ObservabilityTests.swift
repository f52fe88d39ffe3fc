import Glibc
import JSON
import Primitives
import Testing

/// What operators and load balancers read.
@Suite("Metrics and healthcheck", .serialized)
struct ObservabilityTests {
    /// Samples of Prometheus' text format by name and labels; an issue for every line that is none.
    static func samples(_ text: String) -> [String: Double] {
        var samples: [String: Double] = [:]
        var families: Set<Substring> = []
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            if line.hasPrefix("#") {
                #expect(words.count > 3 && (words[1] == "HELP" || words[1] == "TYPE"), "\(line)")
                families.insert(words[2])
                continue
            }
            guard let space = line.lastIndex(of: " "), let value = Double(line[line.index(after: space)...]) else {
                Issue.record("not a sample: \(line)")
                continue
            }
            let key = line[..<space]
            var name = key.prefix { $0 != "{" }
            for suffix in ["_bucket", "_sum", "_count"] where !families.contains(name) && name.hasSuffix(suffix) {
                name = name.dropLast(suffix.count)
            }
            #expect(families.contains(name), "no family for \(line)")
            #expect(samples[String(key)] == nil, "twice: \(key)")
            samples[String(key)] = value
        }
        return samples
    }

    @Test("/metrics counts requests, operations, backends, restarts and the database")
    func metrics() throws {
        let service = try ServiceUnderTest()
        let id = try service.create()
        try service.wait(id, "available")
        _ = try service.api("POST", "/volumes", ["volume": ["size": 0]])
        for pid in service.processes("driver-host") { kill(pid, SIGKILL) }
        try service.wait(try service.create(), "available")
        let answer = try service.request("GET", "/metrics")
        #expect(answer.status == 200 && answer.header("Content-Type") == "text/plain; version=0.0.4; charset=utf-8")
        let samples = Self.samples(answer.text)
        #expect(samples[#"clinker_http_requests_total{operation="volumes:create",status="202"}"#] == 2)
        #expect(samples[#"clinker_http_requests_total{operation="volumes:create",status="400"}"#] == 1)
        #expect(samples[#"clinker_http_request_duration_seconds_count{operation="volumes:create"}"#] == 3)
        #expect(samples[#"clinker_operations_finished_total{flow="volume.create",state="done"}"#] == 2)
        #expect(samples[#"clinker_operation_duration_seconds_bucket{flow="volume.create",le="+Inf"}"#] == 2)
        #expect(samples[#"clinker_backend_up{backend="node@file"}"#] == 1)
        #expect(samples[#"clinker_backend_restarts_total{backend="node@file"}"#] == 1)
        #expect(samples[#"clinker_pool_allocated_gigabytes{pool="node@file#files"}"#] == 2)
        #expect(samples["clinker_core_restarts_total"] == 0)
        #expect((samples["clinker_database_commit_seconds_count"] ?? 0) > 2)
        #expect((samples["process_open_fds"] ?? 0) > 5)
        for pid in service.processes("core") { kill(pid, SIGKILL) }
        let limit = Timestamp.monotonic() + 20
        var restarts = 0.0
        while restarts != 1, Timestamp.monotonic() < limit {
            restarts = (try? Self.samples(service.request("GET", "/metrics").text))?["clinker_core_restarts_total"] ?? 0
            usleep(10_000)
        }
        #expect(restarts == 1)
    }

    @Test("operations that wait show their number and their age")
    func waiting() throws {
        let fault = try FaultyBackend()
        let service = try fault.service()
        try fault.set("create_volume delay-1500 1\n")
        let id = try service.create()
        usleep(500_000)
        let samples = Self.samples(try service.request("GET", "/metrics").text)
        #expect(samples[#"clinker_operations{flow="volume.create",state="running"}"#] == 1)
        #expect((samples[#"clinker_operations_oldest_age_seconds{state="running"}"#] ?? 0) > 0.1)
        #expect(samples[#"clinker_backend_calls{backend="node@fault"}"#] == 1)
        try service.wait(id, "available")
    }

    @Test("/healthcheck answers as oslo's: text or JSON, 204 to HEAD, 503 while the file is there")
    func healthcheck() throws {
        let flag = "/tmp/clinker-disabled-\(UUID.random())"
        let service = try ServiceUnderTest(sections: "[file]\nvolume_driver = file\n[healthcheck]\ndisable_by_file_path = \(flag)\n")
        let text = try service.request("GET", "/healthcheck")
        #expect(text.status == 200 && text.text == "OK" && text.header("Content-Type") == "text/plain; charset=UTF-8")
        let json = try service.request("GET", "/healthcheck", headers: [("Accept", "application/json")])
        #expect(json.status == 200 && json.json == ["detailed": false, "reasons": ["OK"]])
        #expect(try service.request("HEAD", "/healthcheck").status == 204)
        try ServiceUnderTest.write(flag, "")
        defer { unlink(flag) }
        #expect(try service.request("GET", "/healthcheck").status == 503)
        #expect(try service.request("GET", "/healthcheck").text == "DISABLED BY FILE")
        #expect(try service.request("HEAD", "/healthcheck").status == 503)
        #expect(try service.request("GET", "/").status == 300)
    }

    @Test("/healthcheck tells details and answers only some networks, where it is asked to; a new service may begin disabled")
    func healthcheckOptions() throws {
        let service = try ServiceUnderTest(
            options: "enable_new_services = false",
            sections: "[file]\nvolume_driver = file\n[healthcheck]\ndetailed = true\nallowed_source_ranges = 127.0.0.0/8\n")
        let json = try service.request("GET", "/healthcheck", headers: [("Accept", "application/json")]).json
        #expect(json["detailed"] == true && json["reasons"]?.array?.first?["class"] == "HealthcheckResult")
        #expect(json["threads"]?.array?.contains { $0.string?.hasPrefix("http") == true || $0.string?.hasPrefix("MHD") == true } == true)
        let page = try service.request("GET", "/healthcheck", headers: [("Accept", "text/html")])
        #expect(page.header("Content-Type") == "text/html; charset=UTF-8" && page.text.contains("Result of 1 checks"))
        let services = try service.api("GET", "/os-services").json["services"]?.array ?? []
        #expect(!services.isEmpty && services.allSatisfy { $0["status"] == "disabled" }, "\(services)")
        let elsewhere = try ServiceUnderTest(
            sections: "[file]\nvolume_driver = file\n[healthcheck]\nallowed_source_ranges = 10.0.0.0/8\n")
        #expect(try elsewhere.request("GET", "/healthcheck").status == 404)
    }

    @Test("enable_metrics = false leaves /metrics out")
    func off() throws {
        let service = try ServiceUnderTest(options: "enable_metrics = false")
        #expect(try service.request("GET", "/metrics").status == 404)
    }
}
