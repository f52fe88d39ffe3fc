import ArgumentParser
import DriverHost
import Glibc
import JSON
import Primitives
import Processes
import Settings

/// Runs the conformance suite with a driver, each case in its own process, so that a crash or a hang fails that case alone.
struct DriverCheck: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "See whether a driver keeps the promises of clinker/driver.h.",
        discussion:
            "Makes and deletes volumes, or objects of a store of backups, in the storage that the options name; what else is there is left alone. Ends with status 1 if a case failed."
    )

    @OptionGroup var subject: PluginArguments
    @ArgumentParser.Option(help: "volume or store: which kind to check of a plugin that is both, or of a name that two have.")
    var kind: PluginKind?
    @ArgumentParser.Option(name: .customLong("case"), help: "Only cases whose name begins with this; may be repeated.")
    var selected: [String] = []
    @ArgumentParser.Option(help: "Seconds that a case may take.") var timeout = 120.0
    @ArgumentParser.Option(help: "Cases that run at the same time; as many as there are processors, at most four, if not said.") var jobs:
        Int?
    @ArgumentParser.Option(help: "Write the report as JSON to this file.") var json: String?
    @ArgumentParser.Option(help: "Write the report as JUnit's XML to this file.") var junit: String?
    @Flag(help: "List the cases and do nothing.") var list = false
    /// The case that this process runs; the outcome is written to descriptor 3.
    @ArgumentParser.Option(name: .customLong("run"), help: .hidden) var single: String?

    private struct Result: Sendable {
        let name: String
        let outcome: ConformanceOutcome
        let seconds: Double
    }

    func run() throws {
        do {
            let path = try subject.path(kind)
            if let single { Self.child(single, kind ?? .volume, path, try subject.values()) }
            let kind = try self.kind ?? PluginLibrary(path: path).kinds.first ?? .volume
            if list { return Conformance.names(for: kind).forEach { print($0) } }
            let cases = Conformance.names(for: kind).filter { name in selected.isEmpty || selected.contains { name.hasPrefix($0) } }
            guard !cases.isEmpty else {
                throw SettingsError(["no case begins with \(selected.joined(separator: " or ")); --list shows them"])
            }
            try check(path, kind, cases)
        } catch let exit as ExitCode {
            throw exit
        } catch { Exit.fail(error, status: 2) }
    }

    // MARK: one case

    private static func child(_ name: String, _ kind: PluginKind, _ path: String, _ options: DriverValue) -> Never {
        _ = fcntl(3, F_SETFD, FD_CLOEXEC)
        startThread("asker") {
            // The parent is gone: end.
            var byte: UInt8 = 0
            while recv(3, &byte, 1, 0) < 0, errno == EINTR {}
            kill(0, SIGKILL)
        }
        let report: JSON
        let outcome =
            StoreAct.perform(name, plugin: path, options: options, told: 3)
            ?? Conformance.run(name, for: kind, plugin: path, options: options)
        switch outcome {
        case .passed: report = ["outcome": "passed"]
        case .failed(let reason): report = ["outcome": "failed", "reason": .string(reason)]
        case .skipped(let reason): report = ["outcome": "skipped", "reason": .string(reason)]
        }
        _ = report.text.withCString { write(3, $0, strlen($0)) }
        _exit(0)
    }

    /// - Parameter arguments: the plugin, its kind and its options.
    private func outcome(of name: String, _ arguments: [String], in directory: String) throws -> ConformanceOutcome {
        let (mine, theirs) = try socketPair()
        defer { close(mine) }
        let pid: pid_t
        do {
            defer { close(theirs) }
            pid = try Self.running.withLock { running in
                // No new calls: the process is ending.
                while running.isOver { pause(1) }
                let pid = try spawn(
                    executablePath(), ["driver", "check"] + arguments + ["--run", name], descriptors: [(source: theirs, target: 3)],
                    newGroup: true)
                running.pids.insert(pid)
                return pid
            }
        }
        // Programs that it forked may keep the other end open.
        let ended = Semaphore()
        startThread("end") {
            awaitEnd(of: pid)
            shutdown(mine, Int32(SHUT_RDWR))
            ended.post()
        }
        var limit = timeval(tv_sec: Int(timeout), tv_usec: 0)
        setsockopt(mine, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        var text: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        var isLate = false
        while true {
            let count = recv(mine, &chunk, chunk.count, 0)
            if count > 0 {
                text += chunk[..<count]
            } else {
                isLate = count < 0 && errno == EAGAIN
                break
            }
        }
        // Kill its group. Its driver hosts lead groups of their own and end when their connection closes; programs that they started are
        // killed here.
        Self.end(pid, in: directory)
        ended.wait()
        _ = Self.running.withLock { $0.pids.remove(pid) }
        // An interrupted check has no outcome.
        while Self.running.withLock({ $0.isOver }) { pause(1) }
        let status = reap(pid)
        if isLate { return .failed("no end within \(Int(timeout)) seconds") }
        guard let report = try? JSON(parsing: text), let outcome = report["outcome"]?.string else {
            return .failed("the driver ended the process: \(describe(exit: status))")
        }
        let reason = report["reason"]?.string ?? ""
        return outcome == "passed" ? .passed : outcome == "skipped" ? .skipped(reason) : .failed(reason)
    }

    // MARK: all cases

    /// Running cases: PIDs of group leaders.
    private static let running = Guarded<(pids: Set<pid_t>, isOver: Bool)>((pids: [], isOver: false))

    /// Kills the process of a case and its driver hosts, with everything that they started.
    private static func end(_ pid: pid_t, in directory: String) {
        kill(-pid, SIGKILL)
        kill(pid, SIGKILL)
        awaitEnd(of: pid)
        ProcessGroups("\(directory)/check-\(pid)").awaitEnd(of: "host", patience: 0)
    }

    private static func remove(_ directory: String) {
        if let remover = try? spawn("/bin/rm", ["-rf", directory], descriptors: []) { reap(remover) }
    }

    /// On SIGINT and SIGTERM kills the running cases, so that nothing is left behind.
    private static func onInterruption(_ clean: @escaping @Sendable () -> Void) {
        var signals = sigset_t()
        sigemptyset(&signals)
        for signal in [SIGINT, SIGTERM, SIGHUP] { sigaddset(&signals, signal) }
        pthread_sigmask(SIG_BLOCK, &signals, nil)
        let awaited = signals
        startThread("interruption") {
            var awaited = awaited
            var signal: Int32 = 0
            while sigwait(&awaited, &signal) != 0 {}
            clean()
            _exit(128 + signal)
        }
    }

    private func check(_ path: String, _ kind: PluginKind, _ cases: [String]) throws {
        let plugin = try PluginLibrary(path: path).plugin(kind)
        try subject.check(plugin)
        var template = Array("/tmp/clinker-check-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else {
            throw SystemError.last("no directory for the driver's state")
        }
        let state = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
        defer { Self.remove(state) }
        Self.onInterruption {
            let living = Self.running.withLock { running in
                running.isOver = true
                return running.pids
            }
            for pid in living { Self.end(pid, in: state) }
            Self.remove(state)
        }
        let own = state + "/check"
        guard mkdir(own, 0o700) == 0 else {
            throw SystemError.last("no directory for the driver's state")
        }
        let given = ["state_dir=\(own)", "backend=check"] + subject.options
        let arguments = [path, "--kind", kind.rawValue] + given.flatMap { ["--set", $0] }
        print("\(plugin.name) \(plugin.version), \(path)")
        if geteuid() == 0 { writeError("clinker: this runs as root: a driver that goes wrong may do harm to all of this machine") }
        func tell(_ result: Result) {
            switch result.outcome {
            case .passed: print("ok       \(result.name)")
            case .skipped(let reason): print("skipped  \(result.name) (\(reason))")
            case .failed(let reason): print("FAILED   \(result.name)\n         \(reason)")
            }
            fflush(nil)
        }
        // A driver that does not open would fail every case; it is reported once. A single case reports it itself.
        var results = cases.count > 1 ? outcomes(of: [Conformance.first], arguments, in: state, tell) : []
        let others = cases.filter { $0 != Conformance.first || results.isEmpty }
        if case .failed? = results.first?.outcome {
            results += others.map { Result(name: $0, outcome: .skipped("'\(Conformance.first)' failed"), seconds: 0) }
            print("the other \(others.count) cases are left out until that is mended")
        } else {
            results += outcomes(of: others, arguments, in: state, tell)
        }
        // Decided by the plugin's table, since opening the driver here could crash this process.
        let calls = plugin.support.map { (name: $0.call, support: $0.support.rawValue) }
        for support in ["native", "emulated", "unsupported"] {
            let names = calls.filter { $0.support == support }.map(\.name)
            if !names.isEmpty { print("\(support): \(names.joined(separator: " "))") }
        }
        let failures = results.filter { if case .failed = $0.outcome { true } else { false } }
        // Once more where they are found: many lines came behind them.
        if results.count > 20 { for failure in failures where failure.name != Conformance.first { tell(failure) } }
        let failed = failures.count
        let skipped = results.count { if case .skipped = $0.outcome { true } else { false } }
        print("\(results.count) cases: \(results.count - failed - skipped) passed, \(skipped) skipped, \(failed) failed")
        if let json { try save(report(plugin, results, calls).text + "\n", json) }
        if let junit { try save(xml(plugin, results), junit) }
        if failed > 0 { throw ExitCode(1) }
    }

    /// Runs the cases, several at a time; reports them in order.
    private func outcomes(of names: [String], _ arguments: [String], in directory: String, _ tell: (Result) -> Void) -> [Result] {
        let results = names.map { _ in Guarded<Result?>(nil) }
        let ended = names.map { _ in Semaphore() }
        let next = Guarded(0)
        let workers = max(1, jobs ?? min(4, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))))
        let command = self
        for worker in 0..<min(workers, names.count) {
            startThread("check-\(worker)") {
                while true {
                    let index = next.withLock { next in
                        defer { next += 1 }
                        return next
                    }
                    guard index < names.count else { return }
                    let started = Timestamp.monotonic()
                    let outcome: ConformanceOutcome
                    do { outcome = try command.outcome(of: names[index], arguments, in: directory) } catch { outcome = .failed("\(error)") }
                    results[index].withLock {
                        $0 = Result(name: names[index], outcome: outcome, seconds: Timestamp.monotonic() - started)
                    }
                    ended[index].post()
                }
            }
        }
        return names.indices.compactMap { index in
            ended[index].wait()
            let result = results[index].withLock { $0 }
            if let result { tell(result) }
            return result
        }
    }

    private func report(_ plugin: any LoadedPlugin, _ results: [Result], _ calls: [(name: String, support: String)]) -> JSON {
        [
            "driver": .string(plugin.name), "version": .string(plugin.version),
            "calls": .object(JSONObject(calls.map { (name: $0.name, value: .string($0.support)) })),
            "cases": .array(
                results.map { result in
                    var entry: JSONObject = ["name": .string(result.name), "seconds": .real((result.seconds * 1000).rounded() / 1000)]
                    switch result.outcome {
                    case .passed: entry["outcome"] = "passed"
                    case .skipped(let reason): (entry["outcome"], entry["reason"]) = ("skipped", .string(reason))
                    case .failed(let reason): (entry["outcome"], entry["reason"]) = ("failed", .string(reason))
                    }
                    return .object(entry)
                }),
        ]
    }

    private func xml(_ plugin: any LoadedPlugin, _ results: [Result]) -> String {
        func escaped(_ text: String) -> String {
            text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing("\"", with: "&quot;")
        }
        let cases = results.map { result in
            let inside =
                switch result.outcome {
                case .passed: ""
                case .skipped(let reason): "<skipped message=\"\(escaped(reason))\"/>"
                case .failed(let reason): "<failure message=\"\(escaped(reason))\"/>"
                }
            return
                "  <testcase classname=\"\(escaped(plugin.name))\" name=\"\(escaped(result.name))\" time=\"\(result.seconds)\">\(inside)</testcase>\n"
        }
        return
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"clinker driver check\" tests=\"\(results.count)\">\n\(cases.joined())</testsuite>\n"
    }

    private func save(_ text: String, _ path: String) throws {
        guard let file = fopen(path, "we") else {
            throw SystemError.last("cannot write \(path)")
        }
        fputs(text, file)
        fclose(file)
    }
}

extension PluginKind: ExpressibleByArgument {}
