import CDriver
import CRBD
import DriverKit
import Glibc
import JSON

/// A connection to a cluster and to one of its pools. The time-outs set here bound every call, so that an unreachable cluster does not
/// block a thread forever.
package final class Cluster {
    package struct Settings {
        package var user: String?
        package var clusterName = "ceph"
        package var configurationFile: String?
        package var pool = "rbd"
        /// Time-out of an operation in seconds.
        package var timeout = 30
        /// The options that say these, for what is wrong with them.
        package var configurationOption = "rbd_ceph_conf"
        package var poolOption = "rbd_pool"

        package init() {}
    }

    package let settings: Settings
    /// The pool, as librbd and librados take it.
    package let pool: rados_ioctx_t
    private let handle: rados_t
    package let closer = ImageCloser()

    package init(_ settings: Settings) throws {
        self.settings = settings
        var created: rados_t?
        let name = settings.user.map { "client.\($0)" } ?? "client.admin"
        try Self.check(rados_create2(&created, settings.clusterName, name, 0), "cannot prepare for cluster \(settings.clusterName)")
        guard let handle = created else { throw DriverError(CLINKER_ERROR, "librados gave no handle") }
        do {
            if let file = settings.configurationFile {
                guard access(file, R_OK) == 0 else {
                    throw DriverError.last(CLINKER_BAD_CONFIGURATION, "\(settings.configurationOption): \(file) cannot be read")
                }
            }
            let result = rados_conf_read_file(handle, settings.configurationFile)
            guard result == 0 else {
                throw DriverError(
                    CLINKER_BAD_CONFIGURATION,
                    "\(settings.configurationOption): \(settings.configurationFile ?? "the default file") is no Ceph configuration: \(Self.text(result))"
                )
            }
            for option in ["rados_mon_op_timeout", "rados_osd_op_timeout", "client_mount_timeout"] {
                try Self.check(rados_conf_set(handle, option, "\(settings.timeout)"), "cannot set \(option)")
            }
            let connected = rados_connect(handle)
            guard connected == 0 else {
                // A monitor that does not answer may be reachable later; a refused key stays refused.
                let code = [-EACCES, -EPERM, -ENOENT, -EINVAL].contains(connected) ? CLINKER_BAD_CONFIGURATION : CLINKER_RETRY
                throw DriverError(code, "\(name) cannot connect to cluster \(settings.clusterName): \(Self.text(connected))")
            }
        } catch {
            rados_shutdown(handle)
            throw error
        }
        var opened: rados_ioctx_t?
        let result = rados_ioctx_create(handle, settings.pool, &opened)
        guard result == 0, let pool = opened else {
            rados_shutdown(handle)
            throw DriverError(
                result == -ENOENT || result == -EPERM ? CLINKER_BAD_CONFIGURATION : CLINKER_RETRY,
                "\(settings.poolOption): the pool \(settings.pool) cannot be opened: \(Self.text(result))")
        }
        // Writes to a full pool fail with ENOSPC instead of blocking until there is space.
        rados_set_pool_full_try(pool)
        self.handle = handle
        self.pool = pool
    }

    deinit {
        closer.closeAll()
        rados_ioctx_destroy(pool)
        rados_shutdown(handle)
    }

    /// The names of the pool's images.
    package var imageNames: [String] {
        get throws {
            var count = 64
            while true {
                var found = [rbd_image_spec_t](repeating: rbd_image_spec_t(), count: count)
                let result = rbd_list2(pool, &found, &count)
                if result == -ERANGE { continue }
                try Self.check(result, "cannot list the images of \(settings.pool)")
                defer { rbd_image_spec_list_cleanup(&found, count) }
                return found.prefix(count).map { String(cString: $0.name) }
            }
        }
    }

    /// Lends another pool of the cluster, as librbd takes it. Throws NOT_FOUND if there is none that the client may use.
    package func withPool<T>(_ name: String, _ body: (rados_ioctx_t) throws -> T) throws -> T {
        var opened: rados_ioctx_t?
        let result = rados_ioctx_create(handle, name, &opened)
        guard result == 0, let other = opened else {
            let code = result == -ENOENT || result == -EPERM ? CLINKER_NOT_FOUND : CLINKER_RETRY
            throw DriverError(code, "the pool \(name) cannot be opened: \(Self.text(result))")
        }
        defer { rados_ioctx_destroy(other) }
        return try body(other)
    }

    package var fsid: String {
        get throws {
            var buffer = [CChar](repeating: 0, count: 64)
            let length = rados_cluster_fsid(handle, &buffer, buffer.count)
            try Self.check(min(length, 0), "cannot read the cluster's fsid")
            return String(decoding: buffer.prefix(Int(length)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }
    }

    /// The addresses that identify this connection in the cluster; `fence` accepts them.
    package var addresses: String {
        get throws {
            var text: UnsafeMutablePointer<CChar>?
            try Self.check(rados_getaddrs(handle, &text), "cannot read the connection's addresses")
            defer { free(text) }
            return text.map { String(cString: $0) } ?? ""
        }
    }

    /// Adds the client with these addresses to the blocklist: its pending requests are not carried out any more.
    package func fence(_ addresses: String) throws {
        // The monitor accepts one address; all addresses of a client have the same nonce.
        for address in addresses.split(separator: ",") {
            let plain = address.filter { $0 != "[" && $0 != "]" }
            let result = plain.withMutableCString { rados_blocklist_add(handle, $0, Self.fenceSeconds) }
            try Self.check(result, "cannot fence \(plain)")
        }
        try seeFences()
    }

    /// Updates the OSD map, so that every OSD that serves this connection knows the current blocklist.
    package func seeFences() throws { try Self.check(rados_wait_for_latest_osdmap(handle), "cannot wait for the cluster's map") }

    private static let fenceSeconds: UInt32 = 3600

    /// Sends a command to a monitor; returns its output.
    package func command(_ members: (String, String)...) throws -> JSON {
        let json = JSON.object(JSONObject((members + [("format", "json")]).map { (name: $0.0, value: .string($0.1)) })).text
        var output: UnsafeMutablePointer<CChar>?
        var outputLength = 0
        var status: UnsafeMutablePointer<CChar>?
        var statusLength = 0
        let result = json.withCString { text in
            var command: UnsafePointer<CChar>? = text
            return rados_mon_command(handle, &command, 1, nil, 0, &output, &outputLength, &status, &statusLength)
        }
        defer {
            rados_buffer_free(output)
            rados_buffer_free(status)
        }
        try Self.check(result, "the monitor refuses '\(members.first?.1 ?? "")'")
        let bytes = UnsafeRawBufferPointer(start: output, count: outputLength)
        do { return try JSON(parsing: Array(bytes)) } catch {
            throw DriverError(CLINKER_ERROR, "the monitor's answer to '\(members.first?.1 ?? "")' is no JSON")
        }
    }

    // MARK: errors

    package static func text(_ result: Int32) -> String { String(cString: strerror(-result)) }

    /// The driver error code for a result of librbd or librados; OK unless the result is negative.
    package static func code(_ result: Int32) -> clinker_code {
        switch result < 0 ? -result : 0 {
        case 0: CLINKER_OK
        case ENOENT: CLINKER_NOT_FOUND
        case EEXIST: CLINKER_EXISTS
        case EBUSY, ENOTEMPTY: CLINKER_BUSY
        case ENOSPC, EDQUOT: CLINKER_NO_SPACE
        case ETIMEDOUT, EAGAIN, ENOTCONN, ECONNRESET, EINTR, ENOMEM: CLINKER_RETRY
        case ECANCELED: CLINKER_CANCELLED
        case EINVAL, EDOM, EROFS: CLINKER_INVALID
        default: CLINKER_ERROR
        }
    }

    /// Throws the driver error for a negative result.
    package static func check(_ result: Int32, _ what: @autoclosure () -> String) throws(DriverError) {
        guard result < 0 else { return }
        if result == -ESHUTDOWN { leave(what()) }
        throw DriverError(code(result), "\(what()): \(text(result))")
    }

    /// Ends the process: the cluster has blocklisted this client, so another process assumes that this one is dead.
    private static func leave(_ what: String) -> Never {
        let line = "rbd: \(what): this client was fenced; its process ends\n"
        _ = line.withCString { Glibc.write(STDERR_FILENO, $0, strlen($0)) }
        _exit(75)
    }
}

extension StringProtocol {
    fileprivate func withMutableCString<T>(_ body: (UnsafeMutablePointer<CChar>) -> T) -> T {
        var bytes = utf8.map { CChar(bitPattern: $0) } + [0]
        return bytes.withUnsafeMutableBufferPointer { body($0.baseAddress!) }
    }
}
