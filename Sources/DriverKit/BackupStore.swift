public import CDriver

/// A place where the objects of backups are kept. `clinker/driver.h` says, under STORES, what each function must do; it is the contract
/// here too. Calls come from many threads at the same time.
public protocol BackupStore: AnyObject, Sendable {
    func capabilities(_ call: Call) throws
    func stats(_ call: Call) throws
    /// Puts an object made of the slices: whole or absent, on stable storage on return.
    ///
    /// - Parameter sha256: the 32 bytes of the hash of the whole object, where the host knows it.
    func put(_ call: Call, _ name: String, _ slices: [UnsafeRawBufferPointer], sha256: UnsafeRawBufferPointer?) throws
    /// Reads until the buffer is full or the object ends; returns the number of bytes. Throws NOT_FOUND if there is no such object.
    func get(_ call: Call, _ name: String, into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws -> Int
    /// Throws NOT_FOUND if there is no such object.
    func object(_ call: Call, _ name: String) throws -> StoredObject
    /// Calls `each` for every object whose name begins with the prefix and is greater than `after`, in the order of the names' bytes,
    /// until it returns false.
    func list(_ call: Call, prefix: String, after: String, _ each: (StoredObject) -> Bool) throws
    /// Removes objects; one that is gone already counts as removed.
    func remove(_ call: Call, _ names: [String]) throws
    func openWriter(_ call: Call, _ name: String) throws -> any BackupObjectWriter
    /// Keeps an object from being removed or replaced before a time, in seconds since 1970 UTC.
    func protect(_ call: Call, _ name: String, until: Int64) throws
}

extension BackupStore {
    public func openWriter(_ call: Call, _ name: String) throws -> any BackupObjectWriter { throw DriverError.unsupported }
    public func protect(_ call: Call, _ name: String, until: Int64) throws { throw DriverError.unsupported }
}

/// An object of unknown size that is being written, by one thread at a time. Nothing is seen of it before `commit`.
public protocol BackupObjectWriter: AnyObject {
    func write(_ bytes: UnsafeRawBufferPointer) throws
    /// Makes the object visible, on stable storage. It is the last call; so is `abandon`.
    func commit() throws
    /// Gives up what was written, and leaves nothing.
    func abandon()
}

/// What a store knows of an object.
public struct StoredObject: Sendable {
    public let name: String
    /// Bytes.
    public let size: UInt64
    /// When it was put, in seconds since 1970 UTC; 0 if that is not known.
    public let modified: Int64
    public init(name: String, size: UInt64, modified: Int64 = 0) {
        self.name = name
        self.size = size
        self.modified = modified
    }
}

/// The optional calls that a store implements.
public struct StoreCalls: OptionSet, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    /// `openWriter`; without it the host keeps the bytes in a file until it can put them.
    public static let writers = StoreCalls(rawValue: 1 << 0)
    public static let protect = StoreCalls(rawValue: 1 << 1)
}

/// Makes the table of a store in Swift. A plugin's source ends with
///
///     nonisolated(unsafe) private let table = makeStoreTable(name: "example", version: "1.0", vendor: "Example Ltd", offering: .writers) {
///         openStore($0, $1) { try ExampleStore($0) }
///     }
///     @c(clinker_store_v1)
///     public func exampleStore() -> UnsafePointer<clinker_store>? { table }
public func makeStoreTable(
    name: StaticString, version: StaticString, vendor: StaticString, offering calls: StoreCalls = [],
    options: [DriverOptionDeclaration]? = nil,
    open: @escaping @convention(c) (UnsafeMutablePointer<clinker_call>?, UnsafeMutablePointer<UnsafeMutableRawPointer?>?) -> Int32
) -> UnsafePointer<clinker_store> {
    func text(_ text: StaticString) -> UnsafePointer<CChar> { UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self) }
    var table = clinker_store()
    table.abi = CLINKER_DRIVER_ABI
    table.size = UInt32(MemoryLayout<clinker_store>.size)
    table.name = text(name)
    table.version = text(version)
    table.vendor = text(vendor)
    table.kind = CLINKER_BACKUP_DRIVER.rawValue
    table.threads = CLINKER_THREADS_PARALLEL.rawValue
    table.open = open
    table.close = { instance in
        if let instance { Unmanaged<StoreBox>.fromOpaque(instance).release() }
    }
    table.capabilities = { perform($0, $1) { try $0.capabilities($1) } }
    table.stats = { perform($0, $1) { try $0.stats($1) } }
    addObjects(to: &table)
    if calls.contains(.writers) { addWriters(to: &table) }
    if calls.contains(.protect) {
        table.protect = { instance, call, name, until in
            perform(instance, call) { try $0.protect($1, objectName(name), until: until) }
        }
    }
    if let options {
        table.options = DriverOptionDeclaration.table(options)
        table.option_count = UInt32(options.count)
        table.option_size = UInt32(MemoryLayout<clinker_option>.stride)
    }
    let memory = UnsafeMutablePointer<clinker_store>.allocate(capacity: 1)
    memory.initialize(to: table)
    return UnsafePointer(memory)
}

/// Implements a plugin's `open`: creates the store and passes it to the host.
public func openStore(
    _ call: UnsafeMutablePointer<clinker_call>?, _ instance: UnsafeMutablePointer<UnsafeMutableRawPointer?>?,
    _ make: (Call) throws -> any BackupStore
) -> Int32 {
    guard let call, let instance else { return Int32(CLINKER_INVALID.rawValue) }
    do {
        instance.pointee = Unmanaged.passRetained(StoreBox(try make(Call(call)))).toOpaque()
        return 0
    } catch { return Call(call).fail(error) }
}

private final class StoreBox {
    let store: any BackupStore
    init(_ store: any BackupStore) { self.store = store }
}

private final class WriterBox {
    let writer: any BackupObjectWriter
    var hasFailed = false
    init(_ writer: any BackupObjectWriter) { self.writer = writer }
}

private func perform(
    _ instance: UnsafeMutableRawPointer?, _ call: UnsafeMutablePointer<clinker_call>?, _ body: (any BackupStore, Call) throws -> Void
) -> Int32 {
    guard let instance, let call else { return Int32(CLINKER_INVALID.rawValue) }
    do {
        try body(Unmanaged<StoreBox>.fromOpaque(instance).takeUnretainedValue().store, Call(call))
        return 0
    } catch { return Call(call).fail(error) }
}

/// - Throws: INVALID for a name that ``ObjectName/problem(with:)`` refuses.
private func objectName(_ name: UnsafePointer<CChar>?) throws -> String {
    guard let text = name.flatMap({ String(validatingCString: $0) }) else { throw DriverError(CLINKER_INVALID, "a name that is not UTF-8") }
    if let problem = ObjectName.problem(with: text) { throw DriverError(CLINKER_INVALID, "the name '\(text.prefix(100))' \(problem)") }
    return text
}

/// The rule for names of objects, which DriverKit keeps before a store is asked.
public enum ObjectName {
    /// The rule that a name breaks, to be put behind the name; nil if it is one that every store takes.
    public static func problem(with name: String) -> String? {
        var name = name
        return name.withUTF8 { bytes in
            guard !bytes.isEmpty, bytes.count <= 1024 else { return "has \(bytes.count) bytes, not 1 to 1024" }
            let words = bytes.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
            guard words.count <= 64 else { return "has \(words.count) words, at most 64 are taken" }
            for word in words {
                guard !word.isEmpty else { return "has an empty word" }
                guard word.count <= 255 else { return "has a word of \(word.count) bytes, at most 255 are taken" }
                guard word.first != UInt8(ascii: ".") else { return "has a word that begins with a dot" }
                guard word.allSatisfy({ $0 >= 0x20 && $0 != 0x7F }) else { return "has a control character" }
            }
            return nil
        }
    }

    /// Whether a name can begin with bytes that end a word with a slash, or is one that is given whole.
    public static func mayBegin(with place: [UInt8]) -> Bool {
        let whole = place.last == UInt8(ascii: "/") ? place + [UInt8(ascii: "x")] : place
        return String(validating: whole, as: UTF8.self).map { problem(with: $0) == nil } ?? false
    }
}

private func addObjects(to table: inout clinker_store) {
    table.put = { instance, call, name, slices, count, sha256 in
        perform(instance, call) { store, call in
            let buffers = UnsafeBufferPointer(start: slices, count: Int(count)).map {
                UnsafeRawBufferPointer(start: $0.bytes, count: Int($0.length))
            }
            try store.put(call, objectName(name), buffers, sha256: sha256.map { UnsafeRawBufferPointer(start: $0, count: 32) })
        }
    }
    table.get = { instance, call, name, buffer, offset, length, done in
        perform(instance, call) { store, call in
            let count = try store.get(
                call, objectName(name), into: UnsafeMutableRawBufferPointer(start: buffer, count: Int(length)), at: offset)
            done?.pointee = UInt64(count)
        }
    }
    table.stat_object = { instance, call, name, object in
        perform(instance, call) { store, call in
            let found = try store.object(call, objectName(name))
            object?.pointee.length = found.size
            object?.pointee.modified = found.modified
        }
    }
    table.list = { instance, call, prefix, after, each, opaque in
        var stopped: Int32 = 0
        let code = perform(instance, call) { store, call in
            guard let each, let prefix = prefix.flatMap({ String(validatingCString: $0) }),
                let after = after.flatMap({ String(validatingCString: $0) })
            else { throw DriverError(CLINKER_INVALID, "a prefix or a name that is not UTF-8") }
            try store.list(call, prefix: prefix, after: after) { found in
                var object = clinker_object()
                object.size = MemoryLayout<clinker_object>.size
                object.length = found.size
                object.modified = found.modified
                stopped = found.name.withCString { name in
                    object.name = name
                    return each(opaque, &object)
                }
                return stopped == 0
            }
        }
        return code != 0 ? code : stopped
    }
    table.remove = { instance, call, names, count in
        perform(instance, call) { store, call in
            var wanted: [String] = []
            var refusal: (any Error)?
            for name in UnsafeBufferPointer(start: names, count: Int(count)) {
                do { wanted.append(try objectName(name)) } catch { refusal = refusal ?? error }
            }
            try store.remove(call, wanted)
            if let refusal { throw refusal }
        }
    }
}

private func addWriters(to table: inout clinker_store) {
    table.put_open = { instance, call, name, result in
        perform(instance, call) { store, call in
            guard let result else { throw DriverError(CLINKER_INVALID, "no place for the writer") }
            result.pointee = Unmanaged.passRetained(WriterBox(try store.openWriter(call, objectName(name)))).toOpaque()
        }
    }
    table.put_write = { writer, call, bytes, length in
        guard let writer, let call else { return Int32(CLINKER_INVALID.rawValue) }
        let box = Unmanaged<WriterBox>.fromOpaque(writer).takeUnretainedValue()
        do {
            try box.writer.write(UnsafeRawBufferPointer(start: bytes, count: Int(length)))
            return 0
        } catch {
            box.hasFailed = true
            return Call(call).fail(error)
        }
    }
    table.put_close = { writer, call, commit in
        guard let writer, let call else { return Int32(CLINKER_INVALID.rawValue) }
        let box = Unmanaged<WriterBox>.fromOpaque(writer).takeRetainedValue()
        guard commit != 0 else {
            box.writer.abandon()
            return 0
        }
        guard !box.hasFailed else {
            box.writer.abandon()
            return Call(call).fail(DriverError(CLINKER_ERROR, "a part of it could not be written"))
        }
        do {
            try box.writer.commit()
            return 0
        } catch { return Call(call).fail(error) }
    }
}
