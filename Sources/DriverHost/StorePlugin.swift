import CDriver

/// The store of an opened library.
public struct StorePlugin: LoadedPlugin, @unchecked Sendable {
    public let path: String
    /// The store's table, as far as this host knows it; members that an older store lacks are zero.
    let table: UnsafePointer<clinker_store>

    public var kind: PluginKind { .store }
    public var name: String { tableText(table.pointee.name) }
    public var version: String { tableText(table.pointee.version) }
    public var vendor: String { tableText(table.pointee.vendor) }
    public var isSerialized: Bool { false }
    public var abi: UInt32 { table.pointee.abi }

    public var options: [PluginOption]? {
        PluginOption.all(table.pointee.options, count: table.pointee.option_count, size: table.pointee.option_size)
    }

    public var nativeCalls: [String] { calls.filter(\.isThere).map(\.name) }

    public var support: [(call: String, support: Plugin.Support)] {
        // What has no writers is spooled by the host.
        calls.map { ($0.name, $0.isThere ? .native : $0.name.hasPrefix("put_") ? .emulated : .unsupported) }
    }

    private var calls: [(name: String, isThere: Bool, isMandatory: Bool)] {
        let table = table.pointee
        return [
            ("open", table.open != nil, true), ("close", table.close != nil, true), ("capabilities", table.capabilities != nil, true),
            ("stats", table.stats != nil, true), ("put", table.put != nil, true), ("get", table.get != nil, true),
            ("stat_object", table.stat_object != nil, true), ("list", table.list != nil, true), ("remove", table.remove != nil, true),
            ("put_open", table.put_open != nil, false), ("put_write", table.put_write != nil, false),
            ("put_close", table.put_close != nil, false), ("protect", table.protect != nil, false),
        ]
    }

    /// Opens a library and takes its store.
    ///
    /// - Throws: `PluginError`, one line that says what to do.
    public init(path: String) throws(PluginError) { try self.init(PluginLibrary(path: path)) }

    init(_ library: PluginLibrary) throws(PluginError) {
        let path = library.path
        guard let symbol = library.symbol(CLINKER_STORE_SYMBOL) else {
            guard library.kinds.isEmpty else {
                throw PluginError("\(path) is a driver of volumes, no store of backups: name it by volume_driver")
            }
            throw PluginError("\(path) exports no \(CLINKER_STORE_SYMBOL): it is no store; end its source with CLINKER_STORE(table)")
        }
        guard let given = unsafeBitCast(symbol, to: clinker_store_function.self)() else {
            throw PluginError("\(path) gives no table of a store")
        }
        table = try library.copy(
            given, abi: given.pointee.abi, size: given.pointee.size, mandatory: MemoryLayout<clinker_store>.offset(of: \.put_open) ?? 0,
            named: "store")
        self.path = path
        guard !name.isEmpty else { throw PluginError("\(path) has no name in its table of a store") }
        let missing = calls.filter { $0.isMandatory && !$0.isThere }.map(\.name)
        guard missing.isEmpty else {
            throw PluginError("\(path) (store \(name)) lacks the mandatory \(missing.joined(separator: ", "))")
        }
        let writer = calls.filter { $0.name.hasPrefix("put_") }
        guard Set(writer.map(\.isThere)).count == 1 else {
            let there = writer.filter(\.isThere).map(\.name).joined(separator: ", ")
            throw PluginError("\(path) (store \(name)) has only \(there) of put_open, put_write and put_close: all three or none")
        }
        guard table.pointee.kind == CLINKER_BACKUP_DRIVER.rawValue, table.pointee.threads == CLINKER_THREADS_PARALLEL.rawValue else {
            throw PluginError(
                "\(path) (store \(name)): set .kind = CLINKER_BACKUP_DRIVER and .threads = CLINKER_THREADS_PARALLEL: a store is called from many threads"
            )
        }
    }
}
