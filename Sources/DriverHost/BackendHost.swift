import Glibc
import Logging
import Primitives
import Processes

/// The host process of a backend, from its start to its end, and what it sends.
extension Backend {
    /// Runs one host process from start to end; returns whether it was up.
    func runHost() -> Bool {
        let wire: Wire
        let output: HostOutput
        let pid: pid_t
        do throws(SystemError) {
            if !state.withLock({ $0.hasNoOldTransfers }) {
                guard awaitOldProcesses("copy") else { return false }
                state.withLock { $0.hasNoOldTransfers = true }
            }
            guard awaitOldProcesses("host") else { return false }
            let pair = try socketPair()
            wire = Wire(pair.0)
            defer { close(pair.1) }
            output = try HostOutput()
            defer { output.closeTheirs() }
            pid = try spawn(
                executablePath(), ["driver-host", "--backend", name, "--descriptor", "3"],
                descriptors: [(source: pair.1, target: 3)] + output.descriptors, newGroup: true)
        } catch {
            down("\(error)")
            return false
        }
        do throws(SystemError) { try configuration.workers.note(pid, as: "host") } catch {
            log.warning("should the host die, nobody will wait for what it leaves: \(error)", metadata: ["backend": "\(name)"])
        }
        wire.hangUp(atEndOf: pid)
        output.follow { [log, name] line, level in log.log(level: level, "\(line)", metadata: ["backend": "\(name)", "pid": "\(pid)"]) }
        let stopped = state.withLock { state in
            state.pid = pid
            state.wire = wire
            state.openExpires = Timestamp.monotonic() + configuration.openTimeout
            return state.stopping
        }
        if stopped { wire.hangUp() }
        wire.send(
            Frame(
                kind: .open, id: 0,
                value: .members([
                    "wire": .integer(Frame.version), "plugin": .string(configuration.pluginPath), "options": configuration.options,
                    "kind": .string(configuration.kind.rawValue),
                    "threads": .integer(Int64(configuration.threads)),
                ])))
        var wasUp = false
        var reason: String?
        do {
            while let frame = try wire.receive() {
                switch frame.kind {
                case .opened:
                    wasUp = true
                    var unused: [String: String] = [:]
                    for option in frame.value["unused"]?.list ?? [] {
                        if let name = option["name"]?.string { unused[name] = option["reason"]?.string ?? "" }
                    }
                    let description = Description(
                        driver: frame.value["name"]?.string ?? "", version: frame.value["version"]?.string ?? "",
                        vendor: frame.value["vendor"]?.string ?? "", capabilities: frame.value["capabilities"] ?? .object([]),
                        calls: Set((frame.value["calls"]?.list ?? []).compactMap { $0.string.flatMap { DriverMethod(rawValue: $0) } }),
                        options: frame.value["options"]?.list?.compactMap(\.string),
                        unused: unused)
                    state.withLock {
                        $0.description = description
                        $0.openExpires = nil
                        $0.lastError = nil
                    }
                    log.info("backend is up", metadata: ["backend": "\(name)", "driver": "\(description.driver)", "pid": "\(pid)"])
                    onChange(true)
                case .failed where frame.id == 0: reason = frame.value["message"]?.string ?? "open failed"
                default: finish(frame)
                }
            }
        } catch {
            reason = "the host broke the wire: \(error)"
            kill(pid, SIGKILL)
        }
        // Only a dead host has certainly stopped writing, so calls fail with `hostDied` only now. The PID is not reused until it is reaped;
        // it is cleared from the state before.
        awaitEnd(of: pid)
        state.withLock {
            $0.wire = nil
            $0.pid = 0
            $0.openExpires = nil
            $0.description = nil
        }
        let status = reap(pid)
        // Removes the record if no member is left; otherwise the next start waits for the rest.
        _ = try? configuration.workers.members("host")
        let why = reason ?? "the driver host ended with \(describe(exit: status))"
        if !state.withLock({ $0.stopping }) { down(why) }
        let orphans = state.withLock { state in
            defer { state.pending = [:] }
            return Array(state.pending.values)
        }
        for orphan in orphans { orphan.finish(.failure(DriverFailure(.hostDied, why))) }
        if wasUp { onChange(false) }
        return wasUp
    }

    /// Waits until no process of an earlier host or copy is alive; before that no call may be repeated. False if the backend is stopping.
    private func awaitOldProcesses(_ workers: String) -> Bool {
        defer { state.withLock { $0.isWaitingForOldProcesses = false } }
        return configuration.workers.awaitEnd(of: workers, patience: Self.patience, while: { !state.withLock { $0.stopping } }) { living in
            state.withLock { $0.isWaitingForOldProcesses = true }
            switch living {
            case .success(let members):
                down("what was begun for it earlier still runs: " + members.map(\.description).joined(separator: ", "))
            case .failure(let error): down("it cannot be seen whether what was begun for it earlier still runs: \(error)")
            }
        }
    }

    private func down(_ reason: String) {
        let isNews = state.withLock { state in
            defer { state.lastError = reason }
            return state.lastError != reason
        }
        if isNews { log.error("backend is down: \(reason)", metadata: ["backend": "\(name)"]) }
    }

    private func finish(_ frame: Frame) {
        switch frame.kind {
        case .result: state.withLock { $0.pending.removeValue(forKey: frame.id) }?.finish(.success(frame.value))
        case .failed:
            let code = DriverFailure.Code(ofDriver: Int32(truncatingIfNeeded: frame.value["code"]?.integer ?? 1)) ?? .error
            state.withLock { $0.pending.removeValue(forKey: frame.id) }?.finish(
                .failure(DriverFailure(code, frame.value["message"]?.string ?? "no message")))
        case .progress:
            let onProgress = state.withLock { state in
                if let pending = state.pending[frame.id] {
                    let lease = pending.isCancelled ? min(Self.patienceWithCancelled, configuration.callTimeout) : configuration.callTimeout
                    state.pending[frame.id]?.expires = Timestamp.monotonic() + lease
                }
                return state.pending[frame.id]?.onProgress
            }
            onProgress?(UInt64(clamping: frame.value["done"]?.integer ?? 0), UInt64(clamping: frame.value["total"]?.integer ?? 0))
        case .log:
            let request = state.withLock { $0.pending[frame.id]?.requestID } ?? "-"
            log.log(
                level: frame.level, "\(frame.value["message"]?.string ?? "")", metadata: ["backend": "\(name)", "request_id": "\(request)"])
        default: break
        }
    }
}

extension Frame {
    /// The level of a log frame.
    package var level: Logger.Level {
        switch value["level"]?.integer ?? 1 {
        case 0: .debug
        case 1: .info
        case 2: .warning
        default: .error
        }
    }
}
