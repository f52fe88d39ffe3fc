import CDriver
import Glibc
import Synchronization

/// The host's side of a `clinker_call`: made for one call, gone after it.
final class CallContext: @unchecked Sendable {
    let pointer: UnsafeMutablePointer<clinker_call>
    private let arguments: DriverValue
    private var strings: [UnsafeMutablePointer<CChar>] = []
    /// Results being built: the innermost open value last.
    private var open: [Container] = [Container(name: nil, isList: false)]
    private(set) var failure: DriverFailure?
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
        arguments: DriverValue, onLog: @escaping @Sendable (clinker_level, String) -> Void = { _, _ in },
        onProgress: @escaping @Sendable (UInt64, UInt64) -> Void = { _, _ in }
    ) {
        self.arguments = arguments
        self.onLog = onLog
        self.onProgress = onProgress
        pointer = .allocate(capacity: 1)
        pointer.initialize(to: clinker_call(host: Self.functions, reserved: nil))
        pointer.pointee.reserved = Unmanaged.passUnretained(self).toOpaque()
    }

    deinit {
        for string in strings { free(string) }
        pointer.deallocate()
    }

    func cancel() { cancellation.store(true, ordering: .relaxed) }
    var isCancelled: Bool { cancellation.load(ordering: .relaxed) }

    func progress(_ done: UInt64, _ total: UInt64) { onProgress(done, total) }

    /// Runs a function of the driver with this context and gives its results.
    func run(_ function: (UnsafeMutablePointer<clinker_call>) -> Int32) throws -> DriverValue {
        failure = nil
        let code = function(pointer)
        if code != 0 {
            if let failure { throw failure }
            throw DriverFailure(DriverFailure.Code(rawValue: code) ?? .error, "the driver gave code \(code) and no message")
        }
        while open.count > 1 { close() }
        defer { open = [Container(name: nil, isList: false)] }
        return open[0].value
    }

    // MARK: what the driver calls

    private static func me(_ call: UnsafeMutablePointer<clinker_call>?) -> CallContext? {
        guard let raw = call?.pointee.reserved else { return nil }
        return Unmanaged<CallContext>.fromOpaque(raw).takeUnretainedValue()
    }

    private func find(_ name: UnsafePointer<CChar>?) -> DriverValue? {
        guard let name, let path = String(validatingCString: name) else { return nil }
        return arguments.find(path)
    }

    private func set(_ name: UnsafePointer<CChar>?, _ value: DriverValue) {
        let last = open.count - 1
        if open[last].isList {
            open[last].items.append(value)
        } else if let name, let text = String(validatingCString: name) {
            if let index = open[last].members.firstIndex(where: { $0.name == text }) {
                open[last].members[index].value = value
            } else {
                open[last].members.append(DriverValue.Member(text, value))
            }
        }
    }

    private func begin(_ name: UnsafePointer<CChar>?, isList: Bool) {
        guard open.count < DriverValue.depthLimit else { return }
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
        host.set_string = { call, name, value in me(call)?.set(name, value.map { .string(String(cString: $0)) } ?? .null) }
        host.set_secret = { call, name, value in me(call)?.set(name, value.map { .secret(String(cString: $0)) } ?? .null) }
        host.set_integer = { call, name, value in me(call)?.set(name, .integer(value)) }
        host.set_real = { call, name, value in me(call)?.set(name, .real(value)) }
        host.set_boolean = { call, name, value in me(call)?.set(name, .boolean(value != 0)) }
        host.set_null = { call, name in me(call)?.set(name, .null) }
        host.begin_object = { call, name in me(call)?.begin(name, isList: false) }
        host.begin_list = { call, name in me(call)?.begin(name, isList: true) }
        host.end = { call in me(call)?.close() }
        host.log = { call, level, message in
            if let me = me(call), let message { me.onLog(level, String(cString: message)) }
        }
        host.progress = { call, done, total in me(call)?.onProgress(done, total) }
        host.cancelled = { call in me(call)?.isCancelled ?? false ? 1 : 0 }
        host.fail = { call, code, message in
            let code = code == 0 ? 1 : code
            me(call)?.failure = DriverFailure(
                DriverFailure.Code(rawValue: code) ?? .error, message.map { String(cString: $0) } ?? "no message")
            return code
        }
        let memory = UnsafeMutablePointer<clinker_host>.allocate(capacity: 1)
        memory.initialize(to: host)
        return UnsafePointer(memory)
    }()
}
