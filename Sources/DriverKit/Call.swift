public import CDriver

/// An error that tells the host what to do next; the message goes to the log.
public struct DriverError: Error {
    public let code: clinker_code
    public let message: String
    public init(_ code: clinker_code, _ message: String) {
        self.code = code
        self.message = message
    }
    /// The driver does not implement the call: the host emulates it or answers the documented error.
    public static let unsupported = DriverError(CLINKER_UNSUPPORTED, "unsupported")
}

/// One call of the host: arguments and results by name, log, progress, cancellation. Valid until the function returns.
public struct Call {
    let raw: UnsafeMutablePointer<clinker_call>
    private var host: clinker_host { raw.pointee.host.pointee }

    public init(_ raw: UnsafeMutablePointer<clinker_call>) { self.raw = raw }

    /// A text argument; nil if absent.
    public func string(_ name: String) -> String? { host.string(raw, name).map { String(cString: $0) } }

    /// A required text argument; throws INVALID if it is missing.
    public func required(_ name: String) throws -> String {
        guard let value = string(name) else { throw DriverError(CLINKER_INVALID, "argument \(name) is missing") }
        return value
    }

    public func integer(_ name: String) -> Int64? {
        var value: Int64 = 0
        return host.integer(raw, name, &value) != 0 ? value : nil
    }

    /// A volume's size, given in GiB, in bytes; throws INVALID if it is missing or out of range.
    public func gibibytes(_ name: String) throws -> UInt64 {
        guard let size = integer(name), size > 0, size <= 8_388_607 else {
            throw DriverError(CLINKER_INVALID, "\(name) must be a number of GiB from 1 to 8388607")
        }
        return UInt64(size) << 30
    }

    /// The name of the argument that tells manage_volume and manage_snapshot which object to take over.
    public var referenceArgument: String { string("reference.source-name") != nil ? "reference.source-name" : "reference.source-id" }

    public func boolean(_ name: String) -> Bool? {
        var value: Int32 = 0
        return host.boolean(raw, name, &value) != 0 ? value != 0 : nil
    }

    /// The number of items of a list or members of an object; nil if absent.
    public func count(_ name: String) -> Int? {
        let length = host.length(raw, name)
        return length < 0 ? nil : Int(length)
    }

    public func set(_ name: String?, _ value: String) { withName(name) { host.set_string(raw, $0, value) } }
    public func set(_ name: String?, secret value: String) { withName(name) { host.set_secret(raw, $0, value) } }
    public func set(_ name: String?, _ value: Int64) { withName(name) { host.set_integer(raw, $0, value) } }
    public func set(_ name: String?, _ value: Double) { withName(name) { host.set_real(raw, $0, value) } }
    public func set(_ name: String?, _ value: Bool) { withName(name) { host.set_boolean(raw, $0, value ? 1 : 0) } }
    public func setNull(_ name: String?) { withName(name) { host.set_null(raw, $0) } }

    /// Sets an object result; the closure sets its members. Items of a list have no name.
    public func object(_ name: String?, _ members: () throws -> Void) rethrows {
        withName(name) { host.begin_object(raw, $0) }
        defer { host.end(raw) }
        try members()
    }

    public func list(_ name: String?, _ items: () throws -> Void) rethrows {
        withName(name) { host.begin_list(raw, $0) }
        defer { host.end(raw) }
        try items()
    }

    public func log(_ level: clinker_level, _ message: String) { host.log(raw, level, message) }
    public func progress(done: UInt64, total: UInt64) { host.progress(raw, done, total) }
    public var isCancelled: Bool { host.cancelled(raw) != 0 }

    func fail(_ error: any Error) -> Int32 {
        let known = error as? DriverError
        let code = Int32((known?.code ?? CLINKER_ERROR).rawValue)
        return host.fail(raw, code, known?.message ?? "\(error)")
    }

    private func withName(_ name: String?, _ body: (UnsafePointer<CChar>?) -> Void) {
        if let name { name.withCString { body($0) } } else { body(nil) }
    }
}
