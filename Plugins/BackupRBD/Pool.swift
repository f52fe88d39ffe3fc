import CDriver
import CephClient
import CRBD
import DriverKit
import Glibc
import JSON

/// The pool of a store, as objects with data and keys. A call that timed out may be carried out all the same, later.
final class Pool: @unchecked Sendable {
    private let cluster: Cluster
    private let pool: rados_ioctx_t

    var name: String { cluster.settings.pool }

    init(_ cluster: Cluster) {
        self.cluster = cluster
        pool = cluster.pool
    }

    // MARK: data

    /// A write that is under way.
    final class Completion {
        private let completion: rados_completion_t
        fileprivate init(_ completion: rados_completion_t) { self.completion = completion }
        deinit { rados_aio_release(completion) }

        /// Waits for the end; 0 or a negative error number.
        func wait() -> Int32 {
            rados_aio_wait_for_complete(completion)
            return rados_aio_get_return_value(completion)
        }
    }

    private func begin(_ what: String, _ body: (rados_completion_t) -> Int32) throws -> Completion {
        var made: rados_completion_t?
        try Self.check(rados_aio_create_completion2(nil, nil, &made), "cannot \(what)")
        guard let made else { throw DriverError(CLINKER_ERROR, "librados gave no completion") }
        let completion = Completion(made)
        try Self.check(body(made), "cannot \(what)")
        return completion
    }

    /// Begins to write an object; the bytes are copied.
    func startWriting(_ object: String, _ bytes: UnsafeRawBufferPointer) throws -> Completion {
        try begin("write \(object)") {
            rados_aio_write_full(pool, object, $0, bytes.baseAddress?.assumingMemoryBound(to: CChar.self), bytes.count)
        }
    }

    func startRemoving(_ object: String) throws -> Completion { try begin("remove \(object)") { rados_aio_remove(pool, object, $0) } }

    /// The bytes of an object; nil if there is none.
    func size(of object: String) throws -> (size: UInt64, modified: Int64)? {
        var (size, modified) = (UInt64(0), time_t())
        let result = rados_stat(pool, object, &size, &modified)
        if result == -ENOENT { return nil }
        try Self.check(result, "cannot look at \(object)")
        return (size, Int64(modified))
    }

    /// Reads until the buffer is full or the object ends; nil if there is none.
    func readPart(of object: String, into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws -> Int? {
        let result = rados_read(pool, object, buffer.baseAddress?.assumingMemoryBound(to: CChar.self), buffer.count, offset)
        if result == -ENOENT { return nil }
        try Self.check(result, "cannot read \(object)")
        return Int(result)
    }

    /// False if the object is not there, or shorter.
    func read(_ object: String, into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws -> Bool {
        let result = rados_read(pool, object, buffer.baseAddress?.assumingMemoryBound(to: CChar.self), buffer.count, offset)
        if result == -ENOENT { return false }
        try Self.check(result, "cannot read \(object)")
        return Int(result) == buffer.count
    }

    // MARK: keys and values of an object

    /// Where librados puts the results of a read operation, which live until it is carried out.
    private struct Found {
        var entries: rados_omap_iter_t?
        var hasMore: UInt8 = 0
        var result: Int32 = 0
    }

    private func read(
        _ object: String, _ prepare: (rados_read_op_t, UnsafeMutablePointer<Found>) -> Void
    ) throws -> (entries: [(key: String, value: [UInt8])], hasMore: Bool) {
        guard let operation = rados_create_read_op() else { throw DriverError(CLINKER_ERROR, "librados gave no operation") }
        defer { rados_release_read_op(operation) }
        let found = UnsafeMutablePointer<Found>.allocate(capacity: 1)
        found.initialize(to: Found())
        defer {
            if let entries = found.pointee.entries { rados_omap_get_end(entries) }
            found.deallocate()
        }
        prepare(operation, found)
        let result = rados_read_op_operate(operation, pool, object, 0)
        // Nothing was put yet.
        if result == -ENOENT { return ([], false) }
        try Self.check(result, "cannot read the keys of \(object)")
        try Self.check(found.pointee.result, "cannot read the keys of \(object)")
        var entries: [(key: String, value: [UInt8])] = []
        while let iterator = found.pointee.entries {
            var key: UnsafeMutablePointer<CChar>?
            var value: UnsafeMutablePointer<CChar>?
            var (keyLength, valueLength) = (0, 0)
            try Self.check(rados_omap_get_next2(iterator, &key, &value, &keyLength, &valueLength), "cannot read the keys of \(object)")
            guard let key else { break }
            let text = UnsafeRawBufferPointer(start: key, count: keyLength)
            entries.append((String(decoding: text, as: UTF8.self), Array(UnsafeRawBufferPointer(start: value, count: valueLength))))
        }
        return (entries, found.pointee.hasMore != 0)
    }

    /// Some of the keys that begin with the prefix and are greater than `after`, in order.
    func values(of object: String, prefix: String, after: String, atMost limit: UInt64) throws
        -> (entries: [(key: String, value: [UInt8])], hasMore: Bool)
    {
        try read(object) { operation, found in
            rados_read_op_omap_get_vals2(
                operation, after, prefix, limit, at(found, \.entries), at(found, \.hasMore), at(found, \.result))
        }
    }

    func value(of key: String, in object: String) throws -> [UInt8]? {
        try read(object) { operation, found in
            key.withCString { text in
                var (key, length): (UnsafePointer<CChar>?, Int) = (text, strlen(text))
                rados_read_op_omap_get_vals_by_keys2(operation, &key, 1, &length, at(found, \.entries), at(found, \.result))
            }
        }.entries.first { $0.key.utf8.elementsEqual(key.utf8) }?.value
    }

    private func at<T>(_ found: UnsafeMutablePointer<Found>, _ member: WritableKeyPath<Found, T>) -> UnsafeMutablePointer<T>? {
        MemoryLayout<Found>.offset(of: member).map { (UnsafeMutableRawPointer(found) + $0).assumingMemoryBound(to: T.self) }
    }

    /// Sets a key's value, or removes the key if the new value is nil; false if the old value is another one (nil: there is none).
    func setValue(of key: String, in object: String, from old: [UInt8]?, to new: [UInt8]?) throws -> Bool {
        let result = try write(object) { operation in
            key.withCString { text in
                // A key that is not there has the empty value.
                (old ?? []).withUnsafeBytes { old in
                    rados_write_op_omap_cmp2(
                        operation, text, UInt8(LIBRADOS_CMPXATTR_OP_EQ), old.baseAddress?.assumingMemoryBound(to: CChar.self),
                        strlen(text), old.count, nil)
                }
                set(operation, text, new)
            }
        }
        if result == -ECANCELED { return false }
        try Self.check(result, "cannot change the keys of \(object)")
        return true
    }

    func setValue(of key: String, in object: String, to new: [UInt8]?) throws {
        let result = try write(object) { operation in key.withCString { set(operation, $0, new) } }
        try Self.check(result, "cannot change the keys of \(object)")
    }

    private func set(_ operation: rados_write_op_t, _ key: UnsafePointer<CChar>, _ value: [UInt8]?) {
        var (key, keyLength): (UnsafePointer<CChar>?, Int) = (key, strlen(key))
        guard let value else { return rados_write_op_omap_rm_keys2(operation, &key, &keyLength, 1) }
        value.withUnsafeBytes { bytes in
            var (start, length) = (bytes.baseAddress?.assumingMemoryBound(to: CChar.self), bytes.count)
            rados_write_op_omap_set2(operation, &key, &start, &keyLength, &length, 1)
        }
    }

    private func write(_ object: String, _ prepare: (rados_write_op_t) -> Void) throws -> Int32 {
        guard let operation = rados_create_write_op() else { throw DriverError(CLINKER_ERROR, "librados gave no operation") }
        defer { rados_release_write_op(operation) }
        rados_write_op_create(operation, LIBRADOS_CREATE_IDEMPOTENT, nil)
        prepare(operation)
        return rados_write_op_operate2(operation, pool, object, nil, 0)
    }

    // MARK: capacity

    /// Bytes, as the monitors report them; nil until the manager reports a new pool.
    func space() throws -> (total: UInt64, free: UInt64)? {
        let answer = try cluster.command(("prefix", "df"))
        guard let found = answer["pools"]?.array?.first(where: { $0["name"]?.string == name })?["stats"] else { return nil }
        guard let free = found["max_avail"]?.integer, free >= 0 else { return nil }
        let used = UInt64(clamping: found["stored"]?.integer ?? 0)
        return (used + UInt64(free), UInt64(free))
    }

    // MARK: errors

    /// Whether a call that ended so may still be carried out.
    static func isUncertain(_ result: Int32) -> Bool { [-ETIMEDOUT, -ENOTCONN, -ECONNRESET, -ESHUTDOWN, -EINTR].contains(result) }

    private static func text(_ result: Int32) -> String { String(cString: strerror(-result)) }

    /// Throws for a negative result, with the code that it means for a store.
    static func check(_ result: Int32, _ what: @autoclosure () -> String) throws(DriverError) {
        guard result < 0 else { return }
        let code: clinker_code =
            switch -result {
            case ENOSPC, EDQUOT: CLINKER_NO_SPACE
            case ETIMEDOUT, EAGAIN, ENOTCONN, ECONNRESET, EINTR, ENOMEM, ESHUTDOWN: CLINKER_RETRY
            case EACCES, EPERM, EROFS: CLINKER_BAD_CONFIGURATION
            case ENAMETOOLONG: CLINKER_INVALID
            default: CLINKER_ERROR
            }
        throw DriverError(code, "\(what()): \(text(result))")
    }
}
