public import CDriver

/// A volume driver in Swift. The rules of `clinker/driver.h` apply; a call that a driver does not implement is unsupported.
public protocol VolumeDriver: AnyObject {
    func capabilities(_ call: Call) throws
    func stats(_ call: Call) throws
    func createVolume(_ call: Call) throws
    func deleteVolume(_ call: Call) throws
    func extendVolume(_ call: Call) throws
    func cloneVolume(_ call: Call) throws
    func createSnapshot(_ call: Call) throws
    func deleteSnapshot(_ call: Call) throws
    func createVolumeFromSnapshot(_ call: Call) throws
    func revertToSnapshot(_ call: Call) throws
    func exportVolume(_ call: Call) throws
    func ensureExport(_ call: Call) throws
    func unexportVolume(_ call: Call) throws
    func connectVolume(_ call: Call) throws
    func disconnectVolume(_ call: Call) throws
    func listVolumes(_ call: Call) throws
    func manageVolume(_ call: Call) throws
    func unmanageVolume(_ call: Call) throws
    func fence(_ call: Call) throws
    func manageSnapshot(_ call: Call) throws
    func unmanageSnapshot(_ call: Call) throws
    func renameVolume(_ call: Call) throws
    func cloneImage(_ call: Call) throws
    func openHandle(_ call: Call, writable: Bool) throws -> any BlockHandle
}

extension VolumeDriver {
    public func extendVolume(_ call: Call) throws { throw DriverError.unsupported }
    public func cloneVolume(_ call: Call) throws { throw DriverError.unsupported }
    public func createSnapshot(_ call: Call) throws { throw DriverError.unsupported }
    public func deleteSnapshot(_ call: Call) throws { throw DriverError.unsupported }
    public func createVolumeFromSnapshot(_ call: Call) throws { throw DriverError.unsupported }
    public func revertToSnapshot(_ call: Call) throws { throw DriverError.unsupported }
    public func exportVolume(_ call: Call) throws { throw DriverError.unsupported }
    public func ensureExport(_ call: Call) throws { throw DriverError.unsupported }
    public func unexportVolume(_ call: Call) throws { throw DriverError.unsupported }
    public func connectVolume(_ call: Call) throws { throw DriverError.unsupported }
    public func disconnectVolume(_ call: Call) throws { throw DriverError.unsupported }
    public func listVolumes(_ call: Call) throws { throw DriverError.unsupported }
    public func manageVolume(_ call: Call) throws { throw DriverError.unsupported }
    public func unmanageVolume(_ call: Call) throws { throw DriverError.unsupported }
    public func fence(_ call: Call) throws { throw DriverError.unsupported }
    public func manageSnapshot(_ call: Call) throws { throw DriverError.unsupported }
    public func unmanageSnapshot(_ call: Call) throws { throw DriverError.unsupported }
    public func renameVolume(_ call: Call) throws { throw DriverError.unsupported }
    public func cloneImage(_ call: Call) throws { throw DriverError.unsupported }
    public func openHandle(_ call: Call, writable: Bool) throws -> any BlockHandle { throw DriverError.unsupported }
}

/// An open volume or snapshot.
public protocol BlockHandle: AnyObject {
    /// The size in bytes.
    var size: UInt64 { get throws }
    /// Alignment, preferred size and largest size of a request, in bytes.
    var blockSize: (minimum: UInt32, preferred: UInt32, maximum: UInt32) { get }
    /// Fills the buffer or throws.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws
    func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws
    func zero(offset: UInt64, length: UInt64) throws
    func discard(offset: UInt64, length: UInt64) throws
    func flush() throws
    /// Calls `each` in ascending order without gaps until it returns other than 0; returns its last value.
    func extents(offset: UInt64, length: UInt64, _ each: (UInt64, UInt64, UInt32) -> Int32) throws -> Int32
    /// As `extents`, for the parts that differ from the snapshot `since.*` of the call; parts that are not listed do not differ.
    func changed(since call: Call, offset: UInt64, length: UInt64, _ each: (UInt64, UInt64, UInt32) -> Int32) throws -> Int32
    /// Accepts a request and calls its `complete` later, exactly once, from any thread; throws only if it did not accept it.
    func submit(_ request: UnsafeMutablePointer<clinker_request>) throws
    func close()
}

extension BlockHandle {
    public var blockSize: (minimum: UInt32, preferred: UInt32, maximum: UInt32) { (1, 1 << 20, 32 << 20) }
    public func zero(offset: UInt64, length: UInt64) throws { throw DriverError.unsupported }
    public func close() {}
    public func discard(offset: UInt64, length: UInt64) throws {}
    public func extents(offset: UInt64, length: UInt64, _ each: (UInt64, UInt64, UInt32) -> Int32) throws -> Int32 {
        each(offset, length, UInt32(CLINKER_EXTENT_DATA))
    }
    public func changed(since call: Call, offset: UInt64, length: UInt64, _ each: (UInt64, UInt64, UInt32) -> Int32) throws -> Int32 {
        throw DriverError.unsupported
    }
    public func submit(_ request: UnsafeMutablePointer<clinker_request>) throws { throw DriverError.unsupported }
}

/// Makes the table of a driver in Swift. A plugin's source ends with
///
///     nonisolated(unsafe) private let table = makeDriverTable(name: "example", version: "1.0", vendor: "Example Ltd", threads: .parallel) {
///         openDriver($0, $1) { try ExampleDriver($0) }
///     }
///     @c(clinker_driver_v1)
///     public func exampleDriver() -> UnsafePointer<clinker_driver>? { table }
public func makeDriverTable(
    name: StaticString, version: StaticString, vendor: StaticString, threads: DriverThreads, offering calls: DriverCalls = .all,
    options: [DriverOptionDeclaration]? = nil,
    open: @escaping @convention(c) (UnsafeMutablePointer<clinker_call>?, UnsafeMutablePointer<UnsafeMutableRawPointer?>?) -> Int32
) -> UnsafePointer<clinker_driver> {
    func text(_ text: StaticString) -> UnsafePointer<CChar> { UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self) }
    var table = clinker_driver()
    table.abi = CLINKER_DRIVER_ABI
    table.size = UInt32(MemoryLayout<clinker_driver>.size)
    table.name = text(name)
    table.version = text(version)
    table.vendor = text(vendor)
    table.kind = CLINKER_VOLUME_DRIVER.rawValue
    table.threads = threads.rawValue
    table.open = open
    table.close = { instance in
        if let instance { Unmanaged<DriverBox>.fromOpaque(instance).release() }
    }
    table.capabilities = { perform($0, $1) { try $0.capabilities($1) } }
    table.stats = { perform($0, $1) { try $0.stats($1) } }
    table.create_volume = { perform($0, $1) { try $0.createVolume($1) } }
    table.delete_volume = { perform($0, $1) { try $0.deleteVolume($1) } }
    if calls.contains(.extend) {
        table.extend_volume = { perform($0, $1) { try $0.extendVolume($1) } }
    }
    if calls.contains(.clone) {
        table.clone_volume = { perform($0, $1) { try $0.cloneVolume($1) } }
    }
    if calls.contains(.snapshots) {
        table.create_snapshot = { perform($0, $1) { try $0.createSnapshot($1) } }
        table.delete_snapshot = { perform($0, $1) { try $0.deleteSnapshot($1) } }
    }
    if calls.contains(.volumesFromSnapshots) {
        table.create_volume_from_snapshot = { perform($0, $1) { try $0.createVolumeFromSnapshot($1) } }
    }
    if calls.contains(.revert) {
        table.revert_to_snapshot = { perform($0, $1) { try $0.revertToSnapshot($1) } }
    }
    if calls.contains(.export) {
        table.export_volume = { perform($0, $1) { try $0.exportVolume($1) } }
        table.ensure_export = { perform($0, $1) { try $0.ensureExport($1) } }
        table.unexport_volume = { perform($0, $1) { try $0.unexportVolume($1) } }
    }
    if calls.contains(.connect) {
        table.connect_volume = { perform($0, $1) { try $0.connectVolume($1) } }
    }
    if calls.contains(.disconnect) {
        table.disconnect_volume = { perform($0, $1) { try $0.disconnectVolume($1) } }
    }
    if calls.contains(.list) {
        table.list_volumes = { perform($0, $1) { try $0.listVolumes($1) } }
    }
    if calls.contains(.manage) {
        table.manage_volume = { perform($0, $1) { try $0.manageVolume($1) } }
        table.unmanage_volume = { perform($0, $1) { try $0.unmanageVolume($1) } }
    }
    if calls.contains(.fence) {
        table.fence = { perform($0, $1) { try $0.fence($1) } }
    }
    if calls.contains(.manageSnapshots) {
        table.manage_snapshot = { perform($0, $1) { try $0.manageSnapshot($1) } }
        table.unmanage_snapshot = { perform($0, $1) { try $0.unmanageSnapshot($1) } }
    }
    if calls.contains(.rename) {
        table.rename_volume = { perform($0, $1) { try $0.renameVolume($1) } }
    }
    if calls.contains(.images) {
        table.clone_image = { perform($0, $1) { try $0.cloneImage($1) } }
    }
    if calls.contains(.handles) { addHandles(to: &table) }
    if let options {
        table.options = DriverOptionDeclaration.table(options)
        table.option_count = UInt32(options.count)
        table.option_size = UInt32(MemoryLayout<clinker_option>.stride)
    }
    let memory = UnsafeMutablePointer<clinker_driver>.allocate(capacity: 1)
    memory.initialize(to: table)
    return UnsafePointer(memory)
}

/// The optional calls that a driver implements. The host emulates the others over block handles, or answers the documented error.
public struct DriverCalls: OptionSet, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    public static let extend = DriverCalls(rawValue: 1 << 0)
    public static let clone = DriverCalls(rawValue: 1 << 1)
    public static let snapshots = DriverCalls(rawValue: 1 << 2)
    public static let volumesFromSnapshots = DriverCalls(rawValue: 1 << 3)
    public static let revert = DriverCalls(rawValue: 1 << 4)
    public static let export = DriverCalls(rawValue: 1 << 5)
    public static let connect = DriverCalls(rawValue: 1 << 6)
    public static let disconnect = DriverCalls(rawValue: 1 << 7)
    public static let list = DriverCalls(rawValue: 1 << 8)
    public static let manage = DriverCalls(rawValue: 1 << 9)
    public static let manageSnapshots = DriverCalls(rawValue: 1 << 10)
    public static let fence = DriverCalls(rawValue: 1 << 11)
    /// open_handle and the calls on handles.
    public static let handles = DriverCalls(rawValue: 1 << 12)
    public static let rename = DriverCalls(rawValue: 1 << 13)
    /// All that a storage of any kind can have.
    public static let all = DriverCalls(rawValue: (1 << 14) - 1)
    /// clone_image, of a storage in which the Image service keeps images, too.
    public static let images = DriverCalls(rawValue: 1 << 14)
}

/// The thread model of a driver.
public enum DriverThreads: UInt32, Sendable { case serialized = 0, parallel = 1 }

/// Implements a plugin's `open`: creates the driver and passes it to the host.
public func openDriver(
    _ call: UnsafeMutablePointer<clinker_call>?, _ instance: UnsafeMutablePointer<UnsafeMutableRawPointer?>?,
    _ make: (Call) throws -> any VolumeDriver
) -> Int32 {
    guard let call, let instance else { return Int32(CLINKER_INVALID.rawValue) }
    do {
        instance.pointee = Unmanaged.passRetained(DriverBox(try make(Call(call)))).toOpaque()
        return 0
    } catch { return Call(call).fail(error) }
}

private final class DriverBox {
    let driver: any VolumeDriver
    init(_ driver: any VolumeDriver) { self.driver = driver }
}

private final class HandleBox {
    let handle: any BlockHandle
    init(_ handle: any BlockHandle) { self.handle = handle }
}

private func perform(
    _ instance: UnsafeMutableRawPointer?, _ call: UnsafeMutablePointer<clinker_call>?, _ body: (any VolumeDriver, Call) throws -> Void
) -> Int32 {
    guard let instance, let call else { return Int32(CLINKER_INVALID.rawValue) }
    do {
        try body(Unmanaged<DriverBox>.fromOpaque(instance).takeUnretainedValue().driver, Call(call))
        return 0
    } catch { return Call(call).fail(error) }
}

private func withHandle(
    _ handle: UnsafeMutableRawPointer?, _ call: UnsafeMutablePointer<clinker_call>?, _ body: (any BlockHandle) throws -> Void
) -> Int32 {
    guard let handle, let call else { return Int32(CLINKER_INVALID.rawValue) }
    do {
        try body(Unmanaged<HandleBox>.fromOpaque(handle).takeUnretainedValue().handle)
        return 0
    } catch { return Call(call).fail(error) }
}

private func addHandles(to table: inout clinker_driver) {
    table.open_handle = { instance, call, flags, result in
        perform(instance, call) { driver, call in
            guard let result else { throw DriverError(CLINKER_INVALID, "no place for the handle") }
            let handle = try driver.openHandle(call, writable: flags & UInt32(CLINKER_HANDLE_WRITE) != 0)
            result.pointee = Unmanaged.passRetained(HandleBox(handle)).toOpaque()
        }
    }
    table.close_handle = { handle in
        guard let handle else { return }
        let box = Unmanaged<HandleBox>.fromOpaque(handle).takeRetainedValue()
        box.handle.close()
    }
    table.get_size = { handle, call, size in withHandle(handle, call) { size?.pointee = try $0.size } }
    table.block_size = { handle, minimum, preferred, maximum in
        guard let handle else { return Int32(CLINKER_INVALID.rawValue) }
        let sizes = Unmanaged<HandleBox>.fromOpaque(handle).takeUnretainedValue().handle.blockSize
        minimum?.pointee = sizes.minimum
        preferred?.pointee = sizes.preferred
        maximum?.pointee = sizes.maximum
        return 0
    }
    table.read = { handle, call, buffer, offset, length in
        withHandle(handle, call) { try $0.read(into: UnsafeMutableRawBufferPointer(start: buffer, count: Int(length)), at: offset) }
    }
    table.write = { handle, call, buffer, offset, length in
        withHandle(handle, call) { try $0.write(UnsafeRawBufferPointer(start: buffer, count: Int(length)), at: offset) }
    }
    table.zero = { handle, call, offset, length in withHandle(handle, call) { try $0.zero(offset: offset, length: length) } }
    table.discard = { handle, call, offset, length in withHandle(handle, call) { try $0.discard(offset: offset, length: length) } }
    table.flush = { handle, call in withHandle(handle, call) { try $0.flush() } }
    table.extents = { handle, call, offset, length, each, opaque in
        var stopped: Int32 = 0
        let code = withHandle(handle, call) { handle in
            guard let each else { throw DriverError(CLINKER_INVALID, "no function for the extents") }
            stopped = try handle.extents(offset: offset, length: length) { each(opaque, $0, $1, $2) }
        }
        return code != 0 ? code : stopped
    }
    table.changed = { handle, call, offset, length, each, opaque in
        var stopped: Int32 = 0
        let code = withHandle(handle, call) { handle in
            guard let each, let call else { throw DriverError(CLINKER_INVALID, "no function for the extents") }
            stopped = try handle.changed(since: Call(call), offset: offset, length: length) { each(opaque, $0, $1, $2) }
        }
        return code != 0 ? code : stopped
    }
    table.submit = { handle, request in
        guard let handle, let request else { return Int32(CLINKER_INVALID.rawValue) }
        do {
            try Unmanaged<HandleBox>.fromOpaque(handle).takeUnretainedValue().handle.submit(request)
            return 0
        } catch { return Int32(((error as? DriverError)?.code ?? CLINKER_ERROR).rawValue) }
    }
}
