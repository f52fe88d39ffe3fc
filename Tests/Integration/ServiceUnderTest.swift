import Glibc
import JSON
import Primitives
import Processes
import TestSupport
import Testing

/// `clinker serve` as a user starts it: a process with a state directory of its own on a free port of loopback.
final class ServiceUnderTest: @unchecked Sendable {
    static let project = "0123456789abcdef0123456789abcdef"
    static let binary: String = {
        let runner = executablePath()
        return runner.prefix(upTo: runner.lastIndex(of: "/")!) + "/clinker"
    }()
    static let sources = String(#filePath.prefix(upTo: #filePath.lastIndex(of: "/")!))
    static let root = String(sources.prefix(upTo: sources.range("/Tests/Integration")))

    let directory: String
    private(set) var pid: pid_t = 0
    private(set) var port = 0
    let configuration: String

    /// Starts it with an embedded-like configuration; `options` go into [DEFAULT], `sections` behind it.
    init(
        auth: String = "noauth", options: String = "", backends: String = "file", sections: String = "[file]\nvolume_driver = file\n",
        start: Bool = true
    ) throws {
        directory = temporaryDirectory("service")
        configuration = directory + "/clinker.conf"
        port = Int(try Loopback.freePort())
        try Self.write(
            configuration,
            """
            [DEFAULT]
            osapi_volume_listen = 127.0.0.1
            osapi_volume_listen_port = \(port)
            auth_strategy = \(auth)
            host = node
            enabled_backends = \(backends)
            service_look_delay = 0
            \(options)
            \(sections)
            """)
        guard start else { return }
        try self.start()
        waitForBackends(backends.split(separator: ",").map { $0.filter { $0 != " " } })
    }

    /// Waits until each backend has come up, or has said why it does not: a service that never was up takes nothing over.
    private func waitForBackends(_ names: [String]) {
        let limit = Timestamp.monotonic() + 15
        while Timestamp.monotonic() < limit {
            let told = log.split(separator: "\n").filter { $0.contains(" backend is up ") || $0.contains(" backend is down: ") }
            if names.allSatisfy({ name in told.contains { $0.contains(" backend=\(name)") } }) { return }
            usleep(5_000)
        }
    }

    deinit {
        if pid != 0 {
            kill(pid, SIGKILL)
            reap(pid)
        }
        if getenv("CLINKER_KEEP") == nil, let remover = try? spawn("/bin/rm", ["-rf", directory], descriptors: []) { reap(remover) }
    }

    var state: String { directory + "/state" }
    var logPath: String { directory + "/log" }
    var log: String { (try? Self.read(logPath)) ?? "" }
    /// What the log tells beside the requests, its end.
    var story: String { log.split(separator: "\n").filter { !$0.contains(" ACCESS ") }.suffix(60).joined(separator: "\n") }

    func start() throws {
        try launch()
        try waitUntilServing()
    }

    func waitUntilServing() throws {
        let limit = Timestamp.monotonic() + 60
        while (try? request("GET", "/"))?.status != 300 {
            guard Timestamp.monotonic() < limit else { throw Failure("the service did not start:\n\(log)") }
            usleep(5_000)
        }
    }

    /// `wrapper`: a program and its arguments that runs the service.
    func launch(wrapper: [String] = []) throws {
        let output = open(logPath, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        defer { close(output) }
        let command = wrapper + [Self.binary, "serve", "--config", configuration, "--state-dir", state]
        pid = try spawn(
            command[0], Array(command.dropFirst()),
            descriptors: [(source: output, target: 2), (source: output, target: 1)])
    }

    /// SIGTERM, and its end; the exit status.
    @discardableResult
    func stop() -> Int32 {
        kill(pid, SIGTERM)
        return waitForEnd()
    }

    func waitForEnd(seconds: Double = 60) -> Int32 {
        let limit = Timestamp.monotonic() + seconds
        var status: Int32 = 0
        while waitpid(pid, &status, WNOHANG) == 0 {
            if Timestamp.monotonic() > limit {
                kill(pid, SIGKILL)
                status = reap(pid)
                break
            }
            usleep(5_000)
        }
        pid = 0
        return status & 0x7F == 0 ? status >> 8 : -1
    }

    func signal(_ signal: Int32) { kill(pid, signal) }

    /// Process ids of the running core and driver hosts, by their command lines. A child that has only just been spawned still has its
    /// parent's: it is none of them yet.
    func processes(_ command: String) -> [pid_t] {
        var found: [pid_t] = []
        var waiting = [(pid: pid, parent: "")]
        while let next = waiting.popLast() {
            let line = (try? Self.read("/proc/\(next.pid)/cmdline")) ?? ""
            for task in Self.entries("/proc/\(next.pid)/task") {
                let children = (try? Self.read("/proc/\(next.pid)/task/\(task)/children")) ?? ""
                waiting += children.split(separator: " ").compactMap { pid_t($0) }.map { (pid: $0, parent: line) }
            }
            if line != next.parent, line.split(separator: "\0").dropFirst().first.map(String.init) == command { found.append(next.pid) }
        }
        return found
    }

    // MARK: HTTP

    struct Answer {
        let status: Int
        let headers: [(name: String, value: String)]
        let text: String
        var json: JSON { (try? JSON(parsing: text)) ?? .null }
        func header(_ name: String) -> String? { headers.first { $0.name.lowercased() == name.lowercased() }?.value }
        /// The fault's message.
        var message: String? { json.object?.members.first?.value["message"]?.string }
    }

    /// One request on a connection of its own.
    func request(_ method: String, _ path: String, version: String? = "3.71", headers: [(String, String)] = [], body: String? = nil) throws
        -> Answer
    {
        var text = "\(method) \(path) HTTP/1.1\r\nHost: 127.0.0.1:\(port)\r\nConnection: close\r\n"
        if let version { text += "OpenStack-API-Version: volume \(version)\r\n" }
        var hasType = false
        for (name, value) in headers {
            text += "\(name): \(value)\r\n"
            if name.lowercased() == "content-type" { hasType = true }
        }
        if let body {
            if !hasType { text += "Content-Type: application/json\r\n" }
            text += "Content-Length: \(body.utf8.count)\r\n\r\n\(body)"
        } else {
            text += "\r\n"
        }
        let answer = try Loopback.exchange(UInt16(port), Array(text.utf8))
        return try Self.parse(answer)
    }

    static func parse(_ answer: [UInt8]) throws -> Answer {
        guard let end = answer.firstRange(of: Array("\r\n\r\n".utf8)) else { throw Failure("no answer") }
        let head = String(decoding: answer[..<end.lowerBound], as: UTF8.self).split(separator: "\r\n")
        // What has no status line is no answer: its sender died while it spoke.
        guard let status = head.first?.split(separator: " ").dropFirst().first.flatMap({ Int($0) }) else {
            throw Failure("no answer, but: \(head.first ?? "")")
        }
        return Answer(
            status: status,
            headers: head.dropFirst().map { line in
                let parts = line.split(separator: ":", maxSplits: 1)
                return (name: String(parts[0]), value: parts.count > 1 ? String(parts[1].drop { $0 == " " }) : "")
            }, text: String(decoding: answer[end.upperBound...], as: UTF8.self))
    }

    /// A request to a resource of the project. The answer must be one that the API's description has.
    func api(_ method: String, _ path: String, version: String = "3.71", _ body: JSON? = nil) throws -> Answer {
        let answer = try request(method, "/v3/\(Self.project)\(path)", version: version, body: body?.text)
        for violation in try violations(method, String(path.prefix { $0 != "?" }), answer) { Issue.record("\(violation)") }
        return answer
    }

    /// By microversion: the description that every service of this build gives.
    private static let descriptions = Guarded<[String: OpenAPICheck]>([:])

    private func violations(_ method: String, _ path: String, _ answer: Answer) throws -> [String] {
        guard let version = answer.header("OpenStack-API-Version")?.split(separator: " ").last.map(String.init), answer.status != 406 else {
            return []
        }
        var check = Self.descriptions.withLock { $0[version] }
        if check == nil {
            // The service may be on its way down: then the next one is asked.
            guard let served = try? request("GET", "/openapi.json?microversion=\(version)", version: nil), served.status == 200 else {
                return []
            }
            let found = OpenAPICheck(served.json)
            Self.descriptions.withLock { $0[version] = found }
            check = found
        }
        return check?.violations(
            method, path, status: answer.status, contentType: answer.header("Content-Type"), body: answer.text) ?? []
    }

    // MARK: volumes

    func create(_ fields: JSONObject = [:]) throws -> String {
        var volume: JSONObject = ["size": 1]
        for member in fields.members { volume[member.name] = member.value }
        let answer = try api("POST", "/volumes", ["volume": .object(volume)])
        guard answer.status == 202, let id = answer.json["volume"]?["id"]?.string else {
            throw Failure("create: \(answer.status) \(answer.text)")
        }
        return id
    }

    func volume(_ id: String) throws -> JSON? {
        let answer = try api("GET", "/volumes/\(id)")
        return answer.status == 200 ? answer.json["volume"] : nil
    }

    /// Waits until the volume is in the state (nil: gone).
    @discardableResult
    func wait(_ id: String, _ status: String?, seconds: Double = 60) throws -> JSON? {
        let limit = Timestamp.monotonic() + seconds
        var seen = "not to be reached"
        while Timestamp.monotonic() < limit {
            // A service that is just being killed gives no answer: that says nothing about the volume.
            if let answer = try? api("GET", "/volumes/\(id)") {
                let volume = answer.status == 200 ? answer.json["volume"] : nil
                seen = answer.status == 404 ? "gone" : volume?["status"]?.string ?? answer.text
                if seen == status ?? "gone" { return volume }
            }
            usleep(10_000)
        }
        let latest = (try? api("GET", "/operations?resource_id=\(id)&limit=1").json["operations"]?.array?.first?["id"]?.string) ?? ""
        let operation = try? api("GET", "/operations/\(latest)").text
        throw Failure("volume \(id) is \(seen), not \(status ?? "gone")\n\(operation ?? "")\n\(story)")
    }

    func usage(_ resource: String) throws -> Int64? {
        try api("GET", "/os-quota-sets/\(Self.project)?usage=true").json["quota_set"]?[resource]?["in_use"]?.integer
    }

    // MARK: files and programs

    struct Failure: Error, CustomStringConvertible {
        let description: String
        init(_ description: String) { self.description = description }
    }

    static func write(_ path: String, _ text: String, keepingSize: Bool = false) throws {
        let descriptor = open(path, O_RDWR | O_CLOEXEC | (keepingSize ? 0 : O_CREAT | O_TRUNC), 0o600)
        guard descriptor >= 0, let file = fdopen(descriptor, keepingSize ? "r+" : "w") else { throw Failure("cannot write \(path)") }
        fputs(text, file)
        fclose(file)
    }

    static func read(_ path: String, atMost limit: Int = .max) throws -> String {
        String(decoding: try bytes(path, atMost: limit), as: UTF8.self)
    }

    static func bytes(_ path: String, atMost limit: Int = .max) throws -> [UInt8] {
        guard let file = fopen(path, "r") else { throw Failure("cannot read \(path)") }
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        while bytes.count < limit, case let count = fread(&chunk, 1, min(chunk.count, limit - bytes.count), file), count > 0 {
            bytes += chunk[..<count]
        }
        return bytes
    }

    static func entries(_ directory: String) -> [String] { TestSupport.entries(of: directory) }

    /// Runs a program to its end on a thread of its own; its exit status and output.
    static func run(_ program: String, _ arguments: [String]) async throws -> (status: Int32, output: String) {
        let path = "/tmp/clinker-output-\(UUID.random())"
        let output = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        let child = try spawn(program, arguments, descriptors: [(source: output, target: 1), (source: output, target: 2)])
        close(output)
        let status = await withCheckedContinuation { continuation in
            startThread("child") { continuation.resume(returning: reap(child)) }
        }
        defer { unlink(path) }
        return (status & 0x7F == 0 ? status >> 8 : -1, (try? read(path)) ?? "")
    }
}

extension String {
    fileprivate func range(_ text: String) -> Index { ranges(of: text).last?.lowerBound ?? endIndex }
}
