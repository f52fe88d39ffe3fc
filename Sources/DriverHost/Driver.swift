import CDriver
import Glibc

/// An instance of a driver in this process. Calls that the driver leaves out are emulated over block handles.
public final class Driver: @unchecked Sendable {
    public let plugin: Plugin
    private let instance: UnsafeMutableRawPointer

    /// Used by the conformance suite.
    private let witness: DriverWitness?

    /// Opens an instance with the options of the backend's section.
    public convenience init(
        _ plugin: Plugin, options: DriverValue, onLog: @escaping @Sendable (clinker_level, String) -> Void = { _, _ in }
    ) throws { try self.init(plugin, options: options, witness: nil, onLog: onLog) }

    init(
        _ plugin: Plugin, options: DriverValue, witness: DriverWitness?,
        onLog: @escaping @Sendable (clinker_level, String) -> Void = { _, _ in }
    ) throws {
        self.plugin = plugin
        self.witness = witness
        var opened: UnsafeMutableRawPointer?
        let context = CallContext(arguments: options, witness: witness, onLog: onLog)
        _ = try context.run { plugin.table.pointee.open($0, &opened) }
        guard let opened else { throw DriverFailure(.error, "open of driver \(plugin.name) gave no instance") }
        instance = opened
    }

    deinit { plugin.table.pointee.close(instance) }

    public func support(_ method: DriverMethod) -> Plugin.Support { plugin.support(method) }
    private func canEmulate(_ method: DriverMethod) -> Bool { plugin.canEmulate(method) }

    public func call(_ method: DriverMethod, _ arguments: DriverValue) throws -> DriverValue {
        try call(method, arguments, CallContext(arguments: arguments, witness: witness))
    }

    /// The same of what may take long.
    public func call(_ method: DriverMethod, _ arguments: DriverValue, onProgress: @escaping @Sendable (UInt64, UInt64) -> Void) throws
        -> DriverValue
    {
        try call(method, arguments, CallContext(arguments: arguments, witness: witness, onProgress: onProgress))
    }

    /// Calls the driver without emulation; nil if its table lacks the function.
    func callNatively(_ method: DriverMethod, _ arguments: DriverValue) throws -> DriverValue? {
        guard let function = method.function(plugin.table.pointee) else { return nil }
        return try CallContext(arguments: arguments, witness: witness).run { function(instance, $0) }
    }

    func call(_ method: DriverMethod, _ arguments: DriverValue, _ context: CallContext) throws -> DriverValue {
        if let function = method.function(plugin.table.pointee) {
            do {
                return try context.run { function(instance, $0) }
            } catch let failure as DriverFailure where failure.code == .unsupported && canEmulate(method) {
                return try emulate(method, arguments, context)
            }
        }
        guard canEmulate(method) else { throw DriverFailure(.unsupported, "driver \(plugin.name) has no \(method.rawValue)") }
        return try emulate(method, arguments, context)
    }

    // MARK: handles

    /// Opens a block handle for the duration of the closure.
    public func withHandle<T>(_ arguments: DriverValue, writable: Bool, _ body: (Handle) throws -> T) throws -> T {
        try withHandle(CallContext(arguments: arguments, witness: witness), writable: writable, body)
    }

    /// Opens a block handle until the last reference to it is gone.
    public func open(_ arguments: DriverValue, writable: Bool) throws -> OpenHandle {
        try OpenHandle(self, openHandle(CallContext(arguments: arguments, witness: witness), writable: writable))
    }

    /// A block handle that closes itself.
    public final class OpenHandle: @unchecked Sendable {
        public let handle: Handle
        /// The handle is the driver's.
        private let driver: Driver

        fileprivate init(_ driver: Driver, _ handle: Handle) {
            self.driver = driver
            self.handle = handle
        }

        deinit { handle.table.close_handle?(handle.raw) }
    }

    func withHandle<T>(_ context: CallContext, writable: Bool, _ body: (Handle) throws -> T) throws -> T {
        let handle = try openHandle(context, writable: writable)
        defer { handle.table.close_handle?(handle.raw) }
        return try body(handle)
    }

    private func openHandle(_ context: CallContext, writable: Bool) throws -> Handle {
        let table = plugin.table.pointee
        guard let open = table.open_handle, table.close_handle != nil else {
            throw DriverFailure(.unsupported, "driver \(plugin.name) has no block handles")
        }
        var raw: UnsafeMutableRawPointer?
        let flags = UInt32(writable ? CLINKER_HANDLE_WRITE : CLINKER_HANDLE_READ)
        _ = try context.run { open(instance, $0, flags, &raw) }
        guard let raw else { throw DriverFailure(.error, "open_handle gave no handle") }
        do { return Handle(raw: raw, table: table, context: context, sizes: try BlockSizes(of: raw, table)) } catch {
            table.close_handle?(raw)
            throw error
        }
    }

    /// An open block handle, used by one thread.
    public struct Handle {
        let raw: UnsafeMutableRawPointer
        let table: clinker_driver
        let context: CallContext
        let sizes: BlockSizes

        public var size: UInt64 {
            get throws {
                var size: UInt64 = 0
                _ = try context.run { table.get_size?(raw, $0, &size) ?? Int32(CLINKER_UNSUPPORTED.rawValue) }
                return size
            }
        }

        /// The preferred request size in bytes.
        public var preferredSize: Int { Int(sizes.preferred) }

        /// The alignment in bytes of every offset and length.
        public var alignment: UInt64 { sizes.minimum }

        /// The largest request in bytes.
        public var maximumSize: Int { Int(sizes.maximum) }

        public func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws {
            try inPieces(offset, UInt64(buffer.count)) { offset, place, count in
                table.read?(raw, context.pointer, buffer.baseAddress.map { $0 + place }, offset, count)
            }
        }

        public func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws {
            try inPieces(offset, UInt64(buffer.count)) { offset, place, count in
                table.write?(raw, context.pointer, buffer.baseAddress.map { $0 + place }, offset, count)
            }
        }

        /// Zeroes a range: by the driver's function, or by writing zeroes.
        public func zero(offset: UInt64, length: UInt64) throws {
            if let zero = table.zero {
                do {
                    return try inPieces(offset, length) { offset, _, count in zero(raw, context.pointer, offset, count) }
                } catch let failure as DriverFailure where failure.code == .unsupported {}
            }
            let zeroes = [UInt8](repeating: 0, count: min(preferredSize, Int(clamping: length)))
            var position = offset
            while position < offset + length {
                let count = Int(min(UInt64(zeroes.count), offset + length - position))
                try zeroes.withUnsafeBytes { try write(UnsafeRawBufferPointer(rebasing: $0[..<count]), at: position) }
                position += UInt64(count)
            }
        }

        /// Discards a range, whose bytes are unchanged or zero afterwards; does nothing if the driver lacks it.
        public func discard(offset: UInt64, length: UInt64) throws {
            guard let discard = table.discard else { return }
            do {
                try inPieces(offset, length) { offset, _, count in discard(raw, context.pointer, offset, count) }
            } catch let failure as DriverFailure where failure.code == .unsupported {}
        }

        /// Splits a range into requests within the driver's limits.
        private func inPieces(_ offset: UInt64, _ length: UInt64, _ request: (_ offset: UInt64, _ place: Int, _ count: UInt64) -> Int32?)
            throws
        {
            var done: UInt64 = 0
            repeat {
                let count = min(sizes.maximum, length - done)
                _ = try context.run { _ in request(offset + done, Int(done), count) ?? Int32(CLINKER_UNSUPPORTED.rawValue) }
                done += count
            } while done < length
        }

        public func flush() throws {
            if let flush = table.flush { _ = try context.run { flush(raw, $0) } }
        }

        /// Kinds of requests for `submit`, with the values of the header.
        public enum Operation: UInt32, Sendable { case read = 0, write }

        /// Submits a request to a driver that works on several at a time.
        ///
        /// - Parameter done: called once, from any thread, with the failure if there is one. The buffer must live until then.
        /// - Returns: false if the driver does not accept the request; then nothing was done.
        public func submit(
            _ operation: Operation, _ buffer: UnsafeMutableRawBufferPointer, at offset: UInt64,
            _ done: @escaping @Sendable (DriverFailure?) -> Void
        ) -> Bool {
            guard let submit = table.submit, buffer.count <= maximumSize else { return false }
            let request = UnsafeMutablePointer<clinker_request>.allocate(capacity: 1)
            request.initialize(to: clinker_request())
            request.pointee.size = MemoryLayout<clinker_request>.size
            request.pointee.operation = operation.rawValue
            request.pointee.buffer = buffer.baseAddress
            request.pointee.offset = offset
            request.pointee.length = UInt64(buffer.count)
            request.pointee.opaque = Unmanaged.passRetained(Completion(done)).toOpaque()
            request.pointee.complete = { request, code in
                guard let request, let opaque = request.pointee.opaque else { return }
                let completion = Unmanaged<Completion>.fromOpaque(opaque).takeRetainedValue()
                let offset = request.pointee.offset
                request.deallocate()
                completion.done(
                    code == 0
                        ? nil : DriverFailure(DriverFailure.Code(ofDriver: code) ?? .error, "a request at \(offset) failed with \(code)"))
            }
            if submit(raw, request) == 0 { return true }
            if let opaque = request.pointee.opaque { Unmanaged<Completion>.fromOpaque(opaque).release() }
            request.deallocate()
            return false
        }

        private final class Completion: Sendable {
            let done: @Sendable (DriverFailure?) -> Void
            init(_ done: @escaping @Sendable (DriverFailure?) -> Void) { self.done = done }
        }

        public typealias Extent = (offset: UInt64, length: UInt64, flags: UInt32)

        /// The extents of a range; one extent of data if the driver has no map.
        ///
        /// - Parameter most: stops after this many extents.
        public func extents(offset: UInt64, length: UInt64, most: Int = .max) throws -> [Extent] {
            try map(table.extents, offset, length, most: most) ?? [(offset, length, UInt32(CLINKER_EXTENT_DATA))]
        }

        /// The parts of a range that differ from the snapshot `since` of the handle's arguments; nil if the driver cannot tell.
        public func changed(offset: UInt64, length: UInt64) throws -> [Extent]? { try map(table.changed, offset, length) }

        private typealias MapFunction =
            @convention(c) (
                UnsafeMutableRawPointer?, UnsafeMutablePointer<clinker_call>?, UInt64, UInt64, clinker_extent_function?,
                UnsafeMutableRawPointer?
            ) -> Int32

        private func map(_ function: MapFunction?, _ offset: UInt64, _ length: UInt64, most: Int = .max) throws -> [Extent]? {
            final class Collector {
                var extents: [Extent] = []
                let most: Int
                init(most: Int) { self.most = most }
                var isFull: Bool { extents.count >= most }
            }
            let collector = Collector(most: most)
            guard let function else { return nil }
            do {
                _ = try context.run { call in
                    function(
                        raw, call, offset, length,
                        { opaque, offset, length, flags in
                            guard let opaque else { return 1 }
                            let collector = Unmanaged<Collector>.fromOpaque(opaque).takeUnretainedValue()
                            if collector.isFull { return 1 }
                            collector.extents.append((offset, length, flags))
                            return collector.isFull ? 1 : 0
                        }, Unmanaged.passUnretained(collector).toOpaque())
                }
            } catch  where collector.isFull {
                // The driver returns the value by which the callback ended the walk.
            } catch let failure as DriverFailure where failure.code == .unsupported { return nil }
            return collector.extents
        }
    }

    // MARK: emulation over block handles

    private func emulate(_ method: DriverMethod, _ arguments: DriverValue, _ context: CallContext) throws -> DriverValue {
        guard case .object(let members) = arguments else { throw DriverFailure(.invalid, "a call without arguments") }
        func only(_ names: String...) -> DriverValue { .object(members.filter { names.contains($0.name) }) }
        let target = only("volume")
        let source: DriverValue
        switch method {
        case .cloneVolume: source = .members(["volume": arguments["source"] ?? .null])
        case .createVolumeFromSnapshot:
            source = .members(["volume": arguments["source"] ?? .null, "snapshot": arguments["snapshot"] ?? .null])
        default: source = only("volume", "snapshot")
        }
        var result = DriverValue.object([])
        var target2 = target
        let isNew = method != .revertToSnapshot
        if isNew {
            // Bytes of an interrupted copy must not remain where the source has holes.
            _ = try call(.deleteVolume, target)
            result = try call(.createVolume, target)
            if let data = result["data"], case .object(var volume)? = target["volume"] {
                volume.removeAll { $0.name == "data" }
                volume.append(DriverValue.Member("data", data))
                target2 = .members(["volume": .object(volume)])
            }
        }
        var copy = BlockCopy(targetIsZero: isNew)
        copy.onProgress = { context.progress($0, $1) }
        copy.isCancelled = { context.isCancelled }
        try withHandle(source, writable: false) { input in
            try withHandle(target2, writable: true) { output in try copy.run(from: input, to: output) }
        }
        return result
    }
}
