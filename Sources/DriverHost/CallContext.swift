import CDriver
import Glibc
import Synchronization

/// The host's side of a `clinker_call`: created for one call and freed after it.
final class CallContext: @unchecked Sendable {
    let pointer: UnsafeMutablePointer<clinker_call>
    private let arguments: DriverValue
    private var strings: [UnsafeMutablePointer<CChar>] = []
    /// The results being built; the innermost open object or list is the last.
    private var open: [Container] = [Container(name: nil, isList: false)]
    private(set) var failure: DriverFailure?
    /// Why a result is not acceptable; then the call fails whatever it returns.
    private var refusal: String?
    private let witness: DriverWitness?
    private let cancellation = Atomic<Bool>(false)
    private let onLog: @Sendable (clinker_level, String) -> Void
    private let onProgress: @Sendable (UInt64, UInt64) -> Void

    private struct Container {
        let name: String?
        let isList: Bool
        var members: [DriverValue.Member] = []
        var items: [DriverValue] = []
        var value: DriverValue { isList ? .list(items) : .object(members) }
    }

    init(
        arguments: DriverValue, witness: DriverWitness? = nil, onLog: @escaping @Sendable (clinker_level, String) -> Void = { _, _ in },
        onProgress: @escaping @Sendable (UInt64, UInt64) -> Void = { _, _ in }
    ) {
        self.arguments = arguments
        self.witness = witness
        self.onLog = onLog
        self.onProgress = onProgress
        pointer = .allocate(capacity: 1)
        pointer.initialize(to: clinker_call(host: Self.functions, reserved: nil))
        pointer.pointee.reserved = Unmanaged.passUnretained(self).toOpaque()
    }

    deinit {
        for string in strings {
            // A driver that kept the pointer fails at once.
            memset(string, Int32(UInt8(ascii: "?")), strlen(string))
            // The conformance suite keeps the memory poisoned, so that late uses are found.
            if witness == nil { free(string) }
        }
        guard let witness else { return pointer.deallocate() }
        witness.bury(pointer)
    }

    func cancel() { cancellation.store(true, ordering: .relaxed) }
    var isCancelled: Bool { cancellation.load(ordering: .relaxed) }

    func progress(_ done: UInt64, _ total: UInt64) { onProgress(done, total) }

    /// Calls a function of the driver with this context and returns its results.
    func run(_ function: (UnsafeMutablePointer<clinker_call>) -> Int32) throws -> DriverValue {
        failure = nil
        refusal = nil
        defer { open = [Container(name: nil, isList: false)] }
        let code = function(pointer)
        witness?.returned(code, failure)
        if code != 0 {
            let known = DriverFailure.Code(ofDriver: code)
            if let failure, known != nil { throw failure }
            let words = failure.map { ": \($0.message)" } ?? (known == nil ? "" : " and no message")
            throw DriverFailure(
                known ?? .error,
                known == nil ? "the driver returned \(code), which is no code\(words)" : "the driver gave code \(code)\(words)")
        }
        while open.count > 1 { close() }
        if let refusal { throw DriverFailure(.error, refusal) }
        if case .string(let text)? = open[0].value["data"], text.utf8.count > DriverLimits.privateText {
            let bytes = text.utf8.count
            throw DriverFailure(
                .error, "the driver's private text 'data' has \(bytes) bytes, at most \(DriverLimits.privateText) are kept")
        }
        return open[0].value
    }

    // MARK: functions that the driver calls

    private static func me(_ call: UnsafeMutablePointer<clinker_call>?) -> CallContext? {
        guard let raw = call?.pointee.reserved else { return nil }
        return Unmanaged<CallContext>.fromOpaque(raw).takeUnretainedValue()
    }

    private func find(_ name: UnsafePointer<CChar>?) -> DriverValue? {
        guard let name, let path = String(validatingCString: name) else { return nil }
        return arguments.find(path)
    }

    private func refuse(_ reason: String) {
        if refusal == nil { refusal = reason }
    }

    /// Decodes a text that the driver sets; one that is not UTF-8 is refused with the name of the result.
    private func text(_ name: UnsafePointer<CChar>?, _ value: UnsafePointer<CChar>, _ make: (String) -> DriverValue) {
        let text = String(validatingCString: value)
        if text == nil {
            refuse("the driver's result '\(name.map { DriverLimits.cut($0, to: 100) } ?? "an item of a list")' is not UTF-8")
        }
        set(name, make(text ?? ""))
    }

    private func set(_ name: UnsafePointer<CChar>?, _ value: DriverValue) {
        let last = open.count - 1
        if open[last].isList {
            open[last].items.append(value)
        } else if let name {
            guard let text = String(validatingCString: name) else {
                return refuse("the name of a result of the driver, '\(DriverLimits.cut(name, to: 100))', is not UTF-8")
            }
            if let index = open[last].members.firstIndex(where: { $0.name == text }) {
                open[last].members[index].value = value
            } else {
                open[last].members.append(DriverValue.Member(text, value))
            }
        }
    }

    private func begin(_ name: UnsafePointer<CChar>?, isList: Bool) {
        guard open.count < DriverValue.depthLimit else { return refuse("a result of the driver is nested too deep") }
        open.append(Container(name: name.flatMap { String(validatingCString: $0) }, isList: isList))
    }

    private func close() {
        guard open.count > 1 else { return }
        let finished = open.removeLast()
        if let name = finished.name { name.withCString { set($0, finished.value) } } else { set(nil, finished.value) }
    }

    nonisolated(unsafe) private static let functions: UnsafePointer<clinker_host> = {
        var host = clinker_host()
        host.size = MemoryLayout<clinker_host>.size
        host.string = { call, name in
            guard let me = me(call), let text = me.find(name)?.string, let copy = strdup(text) else { return nil }
            me.strings.append(copy)
            return UnsafePointer(copy)
        }
        host.integer = { call, name, value in
            guard let found = me(call)?.find(name)?.integer else { return 0 }
            value?.pointee = found
            return 1
        }
        host.real = { call, name, value in
            guard let found = me(call)?.find(name)?.real else { return 0 }
            value?.pointee = found
            return 1
        }
        host.boolean = { call, name, value in
            guard let found = me(call)?.find(name)?.boolean else { return 0 }
            value?.pointee = found ? 1 : 0
            return 1
        }
        host.length = { call, name in
            switch me(call)?.find(name) {
            case .list(let items): Int64(items.count)
            case .object(let members): Int64(members.count)
            default: -1
            }
        }
        host.set_string = { call, name, value in
            guard let value else { me(call)?.set(name, .null); return }
            me(call)?.text(name, value) { .string($0) }
        }
        host.set_secret = { call, name, value in
            guard let value else { me(call)?.set(name, .null); return }
            me(call)?.text(name, value) { .secret($0) }
            if let text = String(validatingCString: value) { me(call)?.witness?.isSecret(text) }
        }
        host.set_integer = { call, name, value in me(call)?.set(name, .integer(value)) }
        host.set_real = { call, name, value in me(call)?.set(name, .real(value)) }
        host.set_boolean = { call, name, value in me(call)?.set(name, .boolean(value != 0)) }
        host.set_null = { call, name in me(call)?.set(name, .null) }
        host.begin_object = { call, name in me(call)?.begin(name, isList: false) }
        host.begin_list = { call, name in me(call)?.begin(name, isList: true) }
        host.end = { call in me(call)?.close() }
        host.log = { call, level, message in
            guard let me = me(call), let message else { return }
            let line = DriverLimits.cut(message, to: DriverLimits.line)
            me.witness?.said(line)
            me.onLog(level, line)
        }
        host.progress = { call, done, total in me(call)?.onProgress(done, total) }
        host.cancelled = { call in me(call)?.isCancelled ?? false ? 1 : 0 }
        host.fail = { call, code, message in
            let code = code == 0 ? 1 : code
            let words = message.map { DriverLimits.cut($0, to: DriverLimits.message) } ?? "no message"
            me(call)?.witness?.said(words)
            me(call)?.failure = DriverFailure(DriverFailure.Code(ofDriver: code) ?? .error, words)
            return code
        }
        let memory = UnsafeMutablePointer<clinker_host>.allocate(capacity: 1)
        memory.initialize(to: host)
        return UnsafePointer(memory)
    }()
}
