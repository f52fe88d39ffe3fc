import CDriver
import Glibc
import Primitives
import Processes

/// An opened plugin: a shared library with the table of a volume driver, of a store, or of both. It is never closed.
public struct PluginLibrary: @unchecked Sendable {
    public let path: String
    private let handle: UnsafeMutableRawPointer

    /// Opens a library.
    ///
    /// - Throws: `PluginError`, one line that says what to do.
    public init(path: String) throws(PluginError) {
        let file = try TrustedFile(path)
        // Loaded through the checked descriptor, so that nobody can replace the file, or a library beside it, in between.
        guard let handle = dlopen(file.path, RTLD_NOW | RTLD_LOCAL | Int32(RTLD_NODELETE)) else {
            throw PluginError(
                "\(path) cannot be opened: \(String(cString: dlerror()).replacing(file.path, with: path)); build it for this machine and install the libraries it needs"
            )
        }
        file.keep()
        self.path = path
        self.handle = handle
    }

    func symbol(_ name: String) -> UnsafeMutableRawPointer? { dlsym(handle, name) }

    /// The kinds of which the library exports a table.
    public var kinds: [PluginKind] { PluginKind.allCases.filter { symbol($0.symbol) != nil } }

    /// The plugin of a kind.
    public func plugin(_ kind: PluginKind) throws(PluginError) -> any LoadedPlugin {
        switch kind {
        case .volume: try Plugin(self)
        case .store: try StorePlugin(self)
        }
    }

    /// The plugins of all kinds that the library exports.
    ///
    /// - Throws: if there is none, or one cannot be used.
    public func plugins() throws(PluginError) -> [any LoadedPlugin] {
        // Without a symbol, the refusal of a volume driver says what is missing.
        var plugins: [any LoadedPlugin] = []
        for kind in kinds.isEmpty ? [.volume] : kinds { plugins.append(try plugin(kind)) }
        return plugins
    }

    /// Copies a table, as far as this host knows it, over zeroes: members that an older plugin lacks are zero.
    ///
    /// - Parameters:
    ///   - given: the plugin's table.
    ///   - abi: the ABI that it names, and its size in bytes.
    ///   - mandatory: bytes that it must have.
    func copy<Table>(_ given: UnsafePointer<Table>, abi: UInt32, size: UInt32, mandatory: Int, named word: String) throws(PluginError)
        -> UnsafePointer<Table>
    {
        guard abi == CLINKER_DRIVER_ABI else {
            throw PluginError(
                "\(path) was built for driver ABI \(abi), this host speaks \(CLINKER_DRIVER_ABI): build it against this release's clinker/driver.h"
            )
        }
        guard Int(size) >= mandatory else {
            throw PluginError(
                "\(path) has a \(word) table of \(size) bytes, at least \(mandatory) are mandatory: set .size = sizeof(clinker_\(word))")
        }
        let copy = UnsafeMutableRawPointer.allocate(byteCount: MemoryLayout<Table>.size, alignment: 16)
        memset(copy, 0, MemoryLayout<Table>.size)
        memcpy(copy, given, min(Int(size), MemoryLayout<Table>.size))
        return UnsafePointer(copy.assumingMemoryBound(to: Table.self))
    }
}

/// What a plugin is for.
public enum PluginKind: String, Sendable, CaseIterable {
    /// `clinker_driver`: volumes.
    case volume
    /// `clinker_store`: the objects of backups.
    case store

    /// The symbol of its table.
    public var symbol: String {
        switch self {
        case .volume: CLINKER_DRIVER_SYMBOL
        case .store: CLINKER_STORE_SYMBOL
        }
    }
}

/// A plugin whatever its kind.
public protocol LoadedPlugin: Sendable {
    var path: String { get }
    var kind: PluginKind { get }
    var name: String { get }
    var version: String { get }
    var vendor: String { get }
    var abi: UInt32 { get }
    var isSerialized: Bool { get }
    /// The options of its section that it reads; nil if it does not declare them.
    var options: [PluginOption]? { get }
    /// The calls of its table, by the names of the header.
    var nativeCalls: [String] { get }
    /// Every call that there is, with whether the plugin serves it, the host does, or nobody.
    var support: [(call: String, support: Plugin.Support)] { get }
}

/// Why a plugin cannot be used, in one line.
public struct PluginError: Error, CustomStringConvertible, Sendable {
    public let description: String
    init(_ description: String) { self.description = description }
}

/// The text of a table's member; empty if it is missing.
func tableText(_ text: UnsafePointer<CChar>?) -> String { text.map { String(cString: $0) } ?? "" }
