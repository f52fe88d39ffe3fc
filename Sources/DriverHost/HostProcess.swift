import CDriver
import Glibc
import Primitives
import Processes

/// The driver host process: opens one plugin and serves calls over the wire until the core closes it. Calls run on their own threads.
public enum HostProcess {
    /// Serves until the other end closes.
    public static func run(descriptor: Int32) -> Never {
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        lowerThreadPriority()
        preferForOutOfMemoryKill()
        let wire = Wire(descriptor)
        do {
            guard let first = try wire.receive() else { exit(0) }
            guard first.kind == .open, first.value["wire"]?.integer == Frame.version else {
                throw WireError("the core speaks another wire: restart the whole service after an upgrade")
            }
            let state = State(wire: wire)
            do {
                let kind = first.value["kind"]?.string.flatMap { PluginKind(rawValue: $0) } ?? .volume
                let library = try PluginLibrary(path: first.value["plugin"]?.string ?? "")
                let options = first.value["options"] ?? .object([])
                try StateDirectory.make(for: options)
                let plugin: any LoadedPlugin
                let driver: any HostedPlugin
                switch kind {
                case .volume:
                    let found = try Plugin(library)
                    (plugin, driver) = (found, try Driver(found, options: options, onLog: state.logger(first.id)))
                case .store:
                    let found = try StorePlugin(library)
                    (plugin, driver) = (found, try Store(found, options: options, onLog: state.logger(first.id)))
                }
                var capabilities = try driver.call(
                    .capabilities, .object([]), CallContext(arguments: .object([]), onLog: state.logger(first.id)))
                if case .object(var members) = capabilities {
                    members.removeAll { $0.name == "data" }
                    capabilities = .object(members)
                }
                state.start(driver, threads: plugin.isSerialized ? 1 : Int(first.value["threads"]?.integer ?? 20))
                wire.send(
                    Frame(
                        kind: .opened, id: first.id,
                        value: .members([
                            "name": .string(plugin.name), "version": .string(plugin.version), "vendor": .string(plugin.vendor),
                            "capabilities": capabilities, "calls": .list(plugin.nativeCalls.map { .string($0) }),
                            "options": plugin.options.map { .list($0.map { .string($0.name) }) } ?? .null,
                            "unused": .list(
                                (plugin.options ?? []).filter { $0.kind == .unused }.map {
                                    .members(["name": .string($0.name), "reason": .string($0.help)])
                                }),
                        ])))
            } catch {
                wire.send(Frame(kind: .failed, id: first.id, value: failure(error)))
                exit(1)
            }
            while let frame = try wire.receive() { state.take(frame) }
        } catch {
            writeError("driver-host: \(error)")
            _exit(2)
        }
        // The core is gone: running calls must not continue without it.
        _exit(0)
    }

    private static func log(_ id: UInt64, _ level: clinker_level, _ message: String) -> Frame {
        Frame(kind: .log, id: id, value: .members(["level": .integer(Int64(level.rawValue)), "message": .string(message)]))
    }

    private static func failure(_ error: any Error) -> DriverValue {
        let known = error as? DriverFailure
        let code = known?.code ?? (error is PluginError ? .badConfiguration : .error)
        return .members(["code": .integer(Int64(code.rawValue)), "message": .string(known?.message ?? "\(error)")])
    }

    private final class State: Sendable {
        let wire: Wire
        let queue = BlockingQueue<Frame>()
        let running = Guarded<[UInt64: CallContext]>([:])
        /// Cancellations that arrived before their call was started.
        let cancelled = Guarded<Set<UInt64>>([])
        private let gate = LineGate()

        init(wire: Wire) { self.wire = wire }

        func start(_ driver: any HostedPlugin, threads: Int) {
            for index in 0..<max(1, threads) {
                startThread("call-\(index)") { [self] in
                    while let frame = queue.next() { perform(frame, driver) }
                }
            }
        }

        /// Returns a closure that sends log lines of a call.
        func logger(_ id: UInt64) -> @Sendable (clinker_level, String) -> Void {
            { [wire, gate] level, message in
                gate.pass(message) { line, isNotice in
                    let level = isNotice ? CLINKER_WARNING : level
                    wire.send(
                        Frame(kind: .log, id: id, value: .members(["level": .integer(Int64(level.rawValue)), "message": .string(line)])))
                }
            }
        }

        func take(_ frame: Frame) {
            switch frame.kind {
            case .call: queue.append(frame)
            case .cancel:
                if let context = running.withLock({ $0[frame.id] }) {
                    context.cancel()
                } else {
                    _ = cancelled.withLock { $0.insert(frame.id) }
                }
            default: break
            }
        }

        private func perform(_ frame: Frame, _ driver: any HostedPlugin) {
            let id = frame.id
            let wire = wire
            let arguments = frame.value["arguments"] ?? .object([])
            let context = CallContext(
                arguments: arguments,
                onLog: logger(id),
                onProgress: { done, total in
                    wire.send(
                        Frame(
                            kind: .progress, id: id,
                            value: .members(["done": .integer(Int64(clamping: done)), "total": .integer(Int64(clamping: total))])))
                })
            running.withLock { $0[id] = context }
            if cancelled.withLock({ $0.remove(id) }) != nil { context.cancel() }
            let answer: Frame
            do {
                guard let name = frame.value["method"]?.string, let method = DriverMethod(rawValue: name) else {
                    throw DriverFailure(.unsupported, "unknown method")
                }
                answer = Frame(kind: .result, id: id, value: try driver.call(method, arguments, context))
            } catch {
                answer = Frame(kind: .failed, id: id, value: HostProcess.failure(error))
            }
            running.withLock { _ = $0.removeValue(forKey: id) }
            _ = cancelled.withLock { $0.remove(id) }
            wire.send(answer)
        }
    }
}
