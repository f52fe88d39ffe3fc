public import CDriver
import Glibc

/// An instance of a store in this process. Every call blocks its thread; calls may run in parallel.
public final class Store: @unchecked Sendable {
    public let plugin: StorePlugin
    private let instance: UnsafeMutableRawPointer
    /// Where objects of unknown size are kept for a store without writers.
    private let spoolDirectory: String
    private let onLog: @Sendable (clinker_level, String) -> Void
    /// Used by the conformance suite.
    private let witness: DriverWitness?

    private var table: clinker_store { plugin.table.pointee }

    /// Opens an instance with the options of the store's section.
    public convenience init(
        _ plugin: StorePlugin, options: DriverValue, onLog: @escaping @Sendable (clinker_level, String) -> Void = { _, _ in }
    ) throws { try self.init(plugin, options: options, witness: nil, onLog: onLog) }

    init(
        _ plugin: StorePlugin, options: DriverValue, witness: DriverWitness?,
        onLog: @escaping @Sendable (clinker_level, String) -> Void = { _, _ in }
    ) throws {
        self.plugin = plugin
        self.witness = witness
        self.onLog = onLog
        spoolDirectory = options["state_dir"]?.string ?? "/tmp"
        var opened: UnsafeMutableRawPointer?
        _ = try CallContext(arguments: options, witness: witness, onLog: onLog).run { plugin.table.pointee.open($0, &opened) }
        guard let opened else { throw DriverFailure(.error, "open of store \(plugin.name) gave no instance") }
        instance = opened
    }

    deinit { plugin.table.pointee.close(instance) }

    /// Calls the store with a context of its own.
    @discardableResult
    private func run(_ function: (UnsafeMutablePointer<clinker_call>) -> Int32) throws(DriverFailure) -> DriverValue {
        do { return try CallContext(arguments: .object([]), witness: witness, onLog: onLog).run(function) } catch let failure
            as DriverFailure
        {
            throw failure
        } catch { throw DriverFailure(.error, "\(error)") }
    }

    // MARK: the store

    public func capabilities() throws -> DriverValue {
        try call(.capabilities, CallContext(arguments: .object([]), witness: witness, onLog: onLog))
    }

    public func stats() throws -> DriverValue { try call(.stats, CallContext(arguments: .object([]), witness: witness, onLog: onLog)) }

    // MARK: objects

    /// Puts an object made of the slices: whole or absent, on stable storage on return.
    ///
    /// - Parameter sha256: the hash of the whole object, 32 bytes.
    public func put(_ name: String, _ slices: [UnsafeRawBufferPointer], sha256: [UInt8]? = nil) throws(DriverFailure) {
        guard let put = table.put else { throw unsupported("put") }
        guard sha256 == nil || sha256?.count == 32 else { throw DriverFailure(.invalid, "a SHA-256 has 32 bytes") }
        let pieces = slices.map { clinker_slice(bytes: $0.baseAddress, length: UInt64($0.count)) }
        try run { call in
            pieces.withUnsafeBufferPointer { pieces in
                guard let sha256 else { return put(instance, call, name, pieces.baseAddress, UInt32(pieces.count), nil) }
                return sha256.withUnsafeBufferPointer {
                    put(instance, call, name, pieces.baseAddress, UInt32(pieces.count), $0.baseAddress)
                }
            }
        }
    }

    /// Reads from an offset until the buffer is full or the object ends; returns the number of bytes.
    public func get(_ name: String, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(DriverFailure) -> Int {
        guard let get = table.get else { throw unsupported("get") }
        guard offset <= UInt64(Int64.max) - UInt64(buffer.count) else { return 0 }
        var done: UInt64 = 0
        try run { get(instance, $0, name, buffer.baseAddress, offset, UInt64(buffer.count), &done) }
        guard done <= UInt64(buffer.count) else {
            throw DriverFailure(.error, "get of store \(plugin.name) says that it read \(done) bytes of \(buffer.count)")
        }
        return Int(done)
    }

    /// What a store knows of an object.
    public struct Object: Sendable, Equatable {
        public let name: String
        /// Bytes.
        public let size: UInt64
        /// When it was put, in seconds since 1970; nil if the store does not know.
        public let modified: Int64?
    }

    /// The object of that name; nil if there is none.
    public func object(_ name: String) throws(DriverFailure) -> Object? {
        guard let stat = table.stat_object else { throw unsupported("stat_object") }
        var found = clinker_object()
        found.size = MemoryLayout<clinker_object>.size
        do { try run { stat(instance, $0, name, &found) } } catch {
            if error.code == .notFound { return nil }
            throw error
        }
        return Object(name: name, size: found.length, modified: found.modified == 0 ? nil : found.modified)
    }

    /// Calls `each` for every object whose name begins with the prefix and is greater than `after`, in the order of the names' bytes;
    /// stops when it returns false.
    public func list(_ prefix: String, after: String, _ each: (Object) -> Bool) throws(DriverFailure) {
        guard let list = table.list else { throw unsupported("list") }
        try withoutActuallyEscaping(each) { (each) throws(DriverFailure) in
            let listing = Listing(prefix: prefix, after: after, witness, each)
            try run { call in
                let code = list(
                    instance, call, prefix, after,
                    { opaque, object in
                        guard let opaque else { return 1 }
                        return Unmanaged<Listing>.fromOpaque(opaque).takeUnretainedValue().take(object) ? 0 : 1
                    }, Unmanaged.passUnretained(listing).toOpaque())
                // What ended the walk is the value of the function, not a code.
                return listing.isOver ? 0 : code
            }
            if let refusal = listing.refusal { throw DriverFailure(.error, "list of store \(plugin.name): \(refusal)") }
        }
    }

    /// Most names of one call of `remove`.
    public static let removedAtOnce = 1000

    /// Removes objects; one that is gone already counts as removed.
    public func remove(_ names: [String]) throws(DriverFailure) {
        guard let remove = table.remove else { throw unsupported("remove") }
        var first: DriverFailure?
        var seen: Set<String> = []
        let distinct = names.filter { seen.insert($0).inserted }
        for start in stride(from: 0, to: distinct.count, by: Self.removedAtOnce) {
            let texts = distinct[start..<min(start + Self.removedAtOnce, distinct.count)].map { strdup($0) }
            defer { for text in texts { free(text) } }
            let pointers = texts.map { UnsafePointer($0) }
            do {
                try run { call in
                    pointers.withUnsafeBufferPointer { remove(instance, call, $0.baseAddress, UInt32($0.count)) }
                }
            } catch { first = first ?? error }
        }
        if let first { throw first }
    }

    /// Keeps an object from being removed or replaced before a time, in seconds since 1970.
    public func protect(_ name: String, until: Int64) throws(DriverFailure) {
        guard let protect = table.protect else { throw unsupported("protect") }
        try run { protect(instance, $0, name, until) }
    }

    // MARK: writers

    /// Begins an object whose size is not known; for a store without writers its bytes are kept in a file meanwhile.
    public func write(_ name: String) throws(DriverFailure) -> Writer {
        guard let open = table.put_open else { return Writer(self, name, try Spool(in: spoolDirectory)) }
        var raw: UnsafeMutableRawPointer?
        try run { open(instance, $0, name, &raw) }
        guard let raw else { throw DriverFailure(.error, "put_open of store \(plugin.name) gave no writer") }
        return Writer(self, name, raw)
    }

    /// An object that is being written, by one thread at a time.
    public final class Writer {
        private let store: Store
        private let name: String
        private var raw: UnsafeMutableRawPointer?
        private var spool: Spool?

        init(_ store: Store, _ name: String, _ raw: UnsafeMutableRawPointer) {
            (self.store, self.name, self.raw) = (store, name, raw)
        }

        init(_ store: Store, _ name: String, _ spool: Spool) {
            (self.store, self.name, self.spool) = (store, name, spool)
        }

        deinit { abandon() }

        private var ended: DriverFailure { DriverFailure(.invalid, "\(name): its writer has ended") }

        public func append(_ bytes: UnsafeRawBufferPointer) throws(DriverFailure) {
            if let spool { return try spool.append(bytes) }
            guard let raw, let write = store.table.put_write else { throw ended }
            try store.run { write(raw, $0, bytes.baseAddress, UInt64(bytes.count)) }
        }

        /// Makes the object visible, on stable storage.
        public func commit() throws(DriverFailure) {
            if let spool {
                self.spool = nil
                return try spool.withBytes { (bytes) throws(DriverFailure) in try store.put(name, [bytes]) }
            }
            guard let raw, let close = store.table.put_close else { throw ended }
            self.raw = nil
            try store.run { close(raw, $0, 1) }
        }

        /// Gives up what was written. After `commit` it has no effect.
        public func abandon() {
            spool = nil
            guard let raw, let close = store.table.put_close else { return }
            self.raw = nil
            _ = try? store.run { close(raw, $0, 0) }
        }
    }

    private func unsupported(_ call: String) -> DriverFailure { DriverFailure(.unsupported, "store \(plugin.name) has no \(call)") }
}

/// Hands a store's objects to the caller of `list`, and refuses what the header does not allow.
private final class Listing {
    private let prefix, after: [UInt8]
    private let each: (Store.Object) -> Bool
    private let witness: DriverWitness?
    private var last: [UInt8] = []
    private(set) var refusal: String?
    /// Whether the caller, or a refusal, ended it.
    private(set) var isOver = false

    init(prefix: String, after: String, _ witness: DriverWitness?, _ each: @escaping (Store.Object) -> Bool) {
        self.prefix = Array(prefix.utf8)
        self.after = Array(after.utf8)
        last = self.after
        self.each = each
        self.witness = witness
    }

    /// Whether the listing goes on.
    func take(_ object: UnsafePointer<clinker_object>?) -> Bool {
        if isOver {
            witness?.violated("the list went on after it was told to stop")
            return false
        }
        isOver = true
        guard let object, object.pointee.size >= MemoryLayout<clinker_object>.offset(of: \.modified) ?? 0, let text = object.pointee.name,
            let name = String(validatingCString: text)
        else {
            refusal = "an object without a name in UTF-8, or without its size set"
            return false
        }
        let bytes = Array(name.utf8)
        guard bytes.starts(with: prefix) else {
            refusal = "\(name) does not begin with \(String(decoding: prefix, as: UTF8.self))"
            return false
        }
        // Such as what a killed writer left.
        guard bytes.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).allSatisfy({ ($0.first ?? 0x2E) != 0x2E }) else {
            refusal = "\(name) is no name of an object"
            return false
        }
        guard last.lexicographicallyPrecedes(bytes) else {
            refusal = "\(name) comes after \(String(decoding: last, as: UTF8.self))"
            return false
        }
        last = bytes
        let modified = object.pointee.size >= MemoryLayout<clinker_object>.size ? object.pointee.modified : 0
        let wantsMore = each(Store.Object(name: name, size: object.pointee.length, modified: modified == 0 ? nil : modified))
        isOver = !wantsMore
        return wantsMore
    }
}

/// A driver or a store that a host process serves: what the core may ask of it.
protocol HostedPlugin: Sendable {
    func call(_ method: DriverMethod, _ arguments: DriverValue, _ context: CallContext) throws -> DriverValue
}

extension Driver: HostedPlugin {}

extension Store: HostedPlugin {
    func call(_ method: DriverMethod, _ arguments: DriverValue, _ context: CallContext) throws -> DriverValue { try call(method, context) }

    private func call(_ method: DriverMethod, _ context: CallContext) throws -> DriverValue {
        let function =
            switch method {
            case .capabilities: table.capabilities
            case .stats: table.stats
            default: nil as DriverMethod.Function?
            }
        guard let function else { throw unsupported(method.rawValue) }
        return try context.run { function(instance, $0) }
    }
}
