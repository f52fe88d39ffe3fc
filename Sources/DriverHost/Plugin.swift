import CDriver

/// The volume driver of an opened library.
public struct Plugin: LoadedPlugin, @unchecked Sendable {
    public let path: String
    /// The driver's table, as far as this host knows it; members that an older driver lacks are zero.
    let table: UnsafePointer<clinker_driver>

    public var kind: PluginKind { .volume }
    public var name: String { tableText(table.pointee.name) }
    public var version: String { tableText(table.pointee.version) }
    public var vendor: String { tableText(table.pointee.vendor) }
    public var isSerialized: Bool { table.pointee.threads == CLINKER_THREADS_SERIALIZED.rawValue }
    public var abi: UInt32 { table.pointee.abi }

    /// The options of the backend's section that the driver reads; nil if it does not declare them.
    public var options: [PluginOption]? {
        PluginOption.all(table.pointee.options, count: table.pointee.option_count, size: table.pointee.option_size)
    }

    /// The optional calls that the driver implements itself.
    public var nativeCalls: [String] { DriverMethod.allCases.filter { $0.function(table.pointee) != nil }.map(\.rawValue) }

    /// Whether a call is implemented by the driver, emulated by the host, or neither.
    public enum Support: String, Sendable { case native, emulated, unsupported }

    public var support: [(call: String, support: Support)] { DriverMethod.allCases.map { ($0.rawValue, support($0)) } }

    public func support(_ method: DriverMethod) -> Support {
        if method.function(table.pointee) != nil { return .native }
        return canEmulate(method) ? .emulated : .unsupported
    }

    func canEmulate(_ method: DriverMethod) -> Bool {
        let table = table.pointee
        let canCopy =
            table.open_handle != nil && table.close_handle != nil && table.read != nil && table.write != nil && table.get_size != nil
        return canCopy && [.cloneVolume, .createVolumeFromSnapshot, .revertToSnapshot].contains(method)
    }

    /// Opens a library and takes its volume driver.
    ///
    /// - Throws: `PluginError`, one line that says what to do.
    public init(path: String) throws(PluginError) { try self.init(PluginLibrary(path: path)) }

    init(_ library: PluginLibrary) throws(PluginError) {
        let path = library.path
        guard let symbol = library.symbol(CLINKER_DRIVER_SYMBOL) else {
            guard library.kinds.isEmpty else {
                throw PluginError("\(path) is a store of backups, no driver of volumes: name it by backup_driver")
            }
            throw PluginError(
                "\(path) exports no \(CLINKER_DRIVER_SYMBOL): it is no Clinker driver; end its source with CLINKER_DRIVER(table)")
        }
        guard let given = unsafeBitCast(symbol, to: clinker_driver_function.self)() else {
            throw PluginError("\(path) gives no driver table")
        }
        let table = try library.copy(
            given, abi: given.pointee.abi, size: given.pointee.size,
            mandatory: MemoryLayout<clinker_driver>.offset(of: \.extend_volume) ?? 0,
            named: "driver")
        let known = table.pointee
        guard let name = known.name, name.pointee != 0 else { throw PluginError("\(path) has no name in its driver table") }
        let missing = [
            ("open", known.open == nil), ("close", known.close == nil), ("capabilities", known.capabilities == nil),
            ("stats", known.stats == nil), ("create_volume", known.create_volume == nil), ("delete_volume", known.delete_volume == nil),
        ].filter(\.1).map(\.0)
        guard missing.isEmpty else {
            throw PluginError("\(path) (driver \(String(cString: name))) lacks the mandatory \(missing.joined(separator: ", "))")
        }
        self.path = path
        self.table = table
    }
}
