import CDriver
import Glibc
import Primitives
import Processes

/// An opened driver library. It is never closed.
public struct Plugin: @unchecked Sendable {
    public let path: String
    /// The driver's table, as far as this host knows it; members that an older driver lacks are zero.
    let table: UnsafePointer<clinker_driver>

    public var name: String { String(cString: table.pointee.name) }
    public var version: String { table.pointee.version.map { String(cString: $0) } ?? "" }
    public var vendor: String { table.pointee.vendor.map { String(cString: $0) } ?? "" }
    public var isSerialized: Bool { table.pointee.threads == CLINKER_THREADS_SERIALIZED.rawValue }
    public var kind: String { table.pointee.kind == CLINKER_BACKUP_DRIVER.rawValue ? "backup" : "volume" }
    public var abi: UInt32 { table.pointee.abi }

    /// The options of the backend's section that the driver reads; nil if it does not declare them.
    public var options: [PluginOption]? { PluginOption.all(table.pointee) }

    /// The optional calls that the driver implements itself.
    public var nativeCalls: [String] { DriverMethod.allCases.filter { $0.function(table.pointee) != nil }.map(\.rawValue) }

    /// Whether a call is implemented by the driver, emulated by the host, or neither.
    public enum Support: String, Sendable { case native, emulated, unsupported }

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

    /// Opens a plugin.
    ///
    /// - Throws: `PluginError`, one line that says what to do.
    public init(path: String) throws(PluginError) {
        let file = try TrustedFile(path)
        // Loaded through the checked descriptor, so that nobody can replace the file, or a library beside it, in between.
        guard let library = dlopen(file.path, RTLD_NOW | RTLD_LOCAL | Int32(RTLD_NODELETE)) else {
            throw PluginError(
                "\(path) cannot be opened: \(String(cString: dlerror()).replacing(file.path, with: path)); build it for this machine and install the libraries it needs"
            )
        }
        file.keep()
        guard let symbol = dlsym(library, CLINKER_DRIVER_SYMBOL) else {
            throw PluginError(
                "\(path) exports no \(CLINKER_DRIVER_SYMBOL): it is no Clinker driver; end its source with CLINKER_DRIVER(table)")
        }
        guard let given = unsafeBitCast(symbol, to: clinker_driver_function.self)() else {
            throw PluginError("\(path) gives no driver table")
        }
        let abi = given.pointee.abi
        guard abi == CLINKER_DRIVER_ABI else {
            throw PluginError(
                "\(path) was built for driver ABI \(abi), this host speaks \(CLINKER_DRIVER_ABI): build it against this release's clinker/driver.h"
            )
        }
        let size = Int(given.pointee.size)
        let mandatory = MemoryLayout<clinker_driver>.offset(of: \.extend_volume) ?? 0
        guard size >= mandatory else {
            throw PluginError(
                "\(path) has a driver table of \(size) bytes, at least \(mandatory) are mandatory: set .size = sizeof(clinker_driver)")
        }
        let copy = UnsafeMutableRawPointer.allocate(byteCount: MemoryLayout<clinker_driver>.size, alignment: 16)
        memset(copy, 0, MemoryLayout<clinker_driver>.size)
        memcpy(copy, given, min(size, MemoryLayout<clinker_driver>.size))
        let table = UnsafePointer(copy.assumingMemoryBound(to: clinker_driver.self))
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

    // MARK: finding

    /// The paths of the driver libraries in a directory: `lib*.so` and `*.so` whose names begin with clinker.
    public static func find(in directory: String) throws(PluginError) -> [String] {
        guard let listing = opendir(directory) else {
            throw PluginError("\(SystemError.last("the plugin directory \(directory) cannot be read"))")
        }
        defer { closedir(listing) }
        var paths: [String] = []
        while let entry = readdir(listing) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
            }
            if driverName(ofFile: name) != nil { paths.append(directory + "/" + name) }
        }
        return paths.sorted()
    }

    /// `file` for `libClinkerFile.so`, `example` for `clinker-example.so`; nil for other names.
    static func driverName(ofFile file: String) -> String? {
        guard file.hasSuffix(".so") else { return nil }
        var stem = file.dropLast(3).lowercased()
        if stem.hasPrefix("lib") { stem.removeFirst(3) }
        guard stem.hasPrefix("clinker") else { return nil }
        let name = stem.dropFirst(7).filter { $0 != "-" && $0 != "_" }
        return name.isEmpty ? nil : name
    }

    /// The path of the plugin for a value of `volume_driver`: a name, an absolute path, or the Python path of Cinder's driver.
    public static func path(for driver: String, in directory: String) throws(PluginError) -> String {
        if driver.hasPrefix("/") {
            guard access(driver, F_OK) == 0 else {
                throw PluginError("\(SystemError.last("volume_driver = \(driver)"))")
            }
            return driver
        }
        let name = pythonDrivers[driver] ?? driver
        if name.contains(".") {
            throw PluginError(
                "volume_driver = \(driver): no plugin replaces this driver of Cinder; known are \(pythonDrivers.keys.sorted().joined(separator: ", "))"
            )
        }
        let found = try find(in: directory)
        for path in found {
            let file = path.split(separator: "/").last.map(String.init) ?? path
            if driverName(ofFile: file) == name.lowercased() { return path }
        }
        let names = found.compactMap { driverName(ofFile: $0.split(separator: "/").last.map(String.init) ?? "") }
        throw PluginError(
            "volume_driver = \(driver): no such plugin in \(directory); it has \(names.isEmpty ? "none" : names.joined(separator: ", "))")
    }

    static let pythonDrivers = [
        "cinder.volume.drivers.rbd.RBDDriver": "rbd", "cinder.volume.drivers.lvm.LVMVolumeDriver": "lvm",
        "cinder.volume.drivers.nfs.NfsDriver": "nfs",
    ]

    /// The default of `plugin_directory`: `../lib/clinker` of an installed program, else the program's own directory.
    public static func defaultDirectory() -> String {
        let executable = executablePath()
        let directory = executable.lastIndex(of: "/").map { String(executable[..<$0]) } ?? "."
        let parent = directory.lastIndex(of: "/").map { String(directory[..<$0]) } ?? ""
        let installed = parent + "/lib/clinker"
        return access(installed, R_OK) == 0 ? installed : directory
    }
}

/// Why a plugin cannot be used, in one line.
public struct PluginError: Error, CustomStringConvertible, Sendable {
    public let description: String
    init(_ description: String) { self.description = description }
}
