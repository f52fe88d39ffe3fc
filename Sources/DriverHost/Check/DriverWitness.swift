import CDriver
import Glibc
import Primitives

/// Observes, for the conformance suite, violations that do not show in a driver's results.
final class DriverWitness: Sendable {
    private struct State {
        var violations: [String] = []
        var said: [String] = []
        var secrets: Set<String> = []
    }
    private let state = Guarded(State())

    /// Records a violation of the header.
    var violations: [String] { state.withLock { $0.violations } }

    func violated(_ what: String) {
        state.withLock { if $0.violations.count < 20, !$0.violations.contains(what) { $0.violations.append(what) } }
    }

    /// Checks a log line or a message.
    func said(_ text: String) {
        state.withLock { if $0.said.count < 10_000 { $0.said.append(text) } }
    }

    func isSecret(_ text: String) {
        // Shorter secrets may occur in a text by chance.
        if text.utf8.count >= 6 { _ = state.withLock { $0.secrets.insert(text) } }
    }

    /// A line that contains a secret; nil if there is none.
    var betrayal: String? {
        state.withLock { state in state.said.first { line in state.secrets.contains { line.contains($0) } } }
    }

    func returned(_ code: Int32, _ failure: DriverFailure?) {
        guard code != 0 else {
            if let failure { violated("CLINKER_OK was returned after clinker_fail(\(failure.code.name), \"\(failure.message)\")") }
            return
        }
        guard let known = DriverFailure.Code(ofDriver: code) else { return violated("\(code) was returned, which is no code") }
        if let failure {
            if failure.code != known { violated("\(known.name) was returned after clinker_fail(\(failure.code.name), ...)") }
        } else if known != .unsupported {
            violated("\(known.name) was returned without clinker_fail, which says why")
        }
    }

    /// Keeps the memory of an ended call, so that later use of it is detected.
    func bury(_ call: UnsafeMutablePointer<clinker_call>) {
        call.pointee.reserved = Unmanaged.passRetained(self).toOpaque()
        call.pointee.host = Self.functionsOfTheDead
    }

    private static func haunted(_ call: UnsafeMutablePointer<clinker_call>?, _ function: String) {
        guard let raw = call?.pointee.reserved else { return }
        Unmanaged<DriverWitness>.fromOpaque(raw).takeUnretainedValue().violated("\(function) was called for a call that had ended")
    }

    nonisolated(unsafe) private static let functionsOfTheDead: UnsafePointer<clinker_host> = {
        var host = clinker_host()
        host.size = MemoryLayout<clinker_host>.size
        host.string = { call, _ in
            haunted(call, "string")
            return nil
        }
        host.integer = { call, _, _ in
            haunted(call, "integer")
            return 0
        }
        host.real = { call, _, _ in
            haunted(call, "real")
            return 0
        }
        host.boolean = { call, _, _ in
            haunted(call, "boolean")
            return 0
        }
        host.length = { call, _ in
            haunted(call, "length")
            return -1
        }
        host.set_string = { call, _, _ in haunted(call, "set_string") }
        host.set_secret = { call, _, _ in haunted(call, "set_secret") }
        host.set_integer = { call, _, _ in haunted(call, "set_integer") }
        host.set_real = { call, _, _ in haunted(call, "set_real") }
        host.set_boolean = { call, _, _ in haunted(call, "set_boolean") }
        host.set_null = { call, _ in haunted(call, "set_null") }
        host.begin_object = { call, _ in haunted(call, "begin_object") }
        host.begin_list = { call, _ in haunted(call, "begin_list") }
        host.end = { call in haunted(call, "end") }
        host.log = { call, _, _ in haunted(call, "log") }
        host.progress = { call, _, _ in haunted(call, "progress") }
        host.cancelled = { call in
            haunted(call, "cancelled")
            return 1
        }
        host.fail = { call, code, _ in
            haunted(call, "fail")
            return code == 0 ? 1 : code
        }
        let memory = UnsafeMutablePointer<clinker_host>.allocate(capacity: 1)
        memory.initialize(to: host)
        return UnsafePointer(memory)
    }()
}
