import Glibc
import Primitives
import Processes

// Where plugins are found, and by which names.
extension Plugin {
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

    /// The path of the plugin for a value of `volume_driver` or `backup_driver`: a name, an absolute path, or the Python path of Cinder's
    /// driver. `posix` is the store of `libClinkerBackupPOSIX.so`.
    public static func path(for driver: String, in directory: String, kind: PluginKind = .volume) throws(PluginError) -> String {
        let option = kind == .volume ? "volume_driver" : "backup_driver"
        if driver.hasPrefix("/") {
            guard access(driver, F_OK) == 0 else {
                throw PluginError("\(SystemError.last("\(option) = \(driver)"))")
            }
            return driver
        }
        let known = kind == .volume ? pythonDrivers : pythonStores
        let name = known[driver] ?? (kind == .store ? storeNames[driver.lowercased()] : nil) ?? driver
        if name.contains(".") {
            throw PluginError(
                "\(option) = \(driver): no plugin replaces this driver of Cinder; known are \(known.keys.sorted().joined(separator: ", "))"
            )
        }
        let found = try find(in: directory)
        let plain = name.lowercased()
        for wanted in kind == .volume ? [plain] : ["backup" + plain, plain] {
            for path in found where fileName(path).flatMap(driverName(ofFile:)) == wanted { return path }
        }
        let names = found.compactMap { fileName($0).flatMap(driverName(ofFile:)) }
        // Of stores only what is one by its name: to open the others would run their code.
        let stores = names.filter { $0.hasPrefix("backup") }.map { String($0.dropFirst(6)) }
        let shown = kind == .volume ? names : stores
        throw PluginError(
            "\(option) = \(driver): no such plugin in \(directory); it has \(shown.isEmpty ? "none" : shown.joined(separator: ", "))")
    }

    private static func fileName(_ path: String) -> String? { path.split(separator: "/").last.map(String.init) }

    static let pythonDrivers = [
        "cinder.volume.drivers.rbd.RBDDriver": "rbd", "cinder.volume.drivers.lvm.LVMVolumeDriver": "lvm",
        "cinder.volume.drivers.nfs.NfsDriver": "nfs",
    ]

    /// Cinder's modules with their classes. GlusterFS is a directory that is mounted.
    private static let cinderStores: [(module: String, name: String, plugin: String)] = [
        ("posix", "PosixBackupDriver", "posix"), ("nfs", "NFSBackupDriver", "nfs"),
        ("glusterfs", "GlusterfsBackupDriver", "posix"), ("ceph", "CephBackupDriver", "rbd"), ("swift", "SwiftBackupDriver", "swift"),
        ("s3", "S3BackupDriver", "s3"),
    ]

    /// By classes and, from before Ocata, modules.
    static let pythonStores: [String: String] = {
        var stores: [String: String] = [:]
        for store in cinderStores {
            stores["cinder.backup.drivers.\(store.module)"] = store.plugin
            stores["cinder.backup.drivers.\(store.module).\(store.name)"] = store.plugin
        }
        return stores
    }()

    /// What Cinder calls the driver that a value of `backup_driver` means, as its records have it; nil if Cinder has none.
    public static func cinderStore(_ driver: String) -> String? {
        let found = cinderStores.first { store in
            let module = "cinder.backup.drivers.\(store.module)"
            return [store.module, store.plugin, module, "\(module).\(store.name)"].contains(
                driver.contains(".") ? driver : driver.lowercased())
        }
        return found.map { "cinder.backup.drivers.\($0.module).\($0.name)" }
    }

    /// Plain names of Cinder's drivers that are another plugin's here.
    private static let storeNames = ["ceph": "rbd", "glusterfs": "posix"]

    /// The default of `plugin_directory`: `../lib/clinker` of an installed program, else the program's own directory.
    public static func defaultDirectory() -> String {
        let executable = executablePath()
        let directory = executable.lastIndex(of: "/").map { String(executable[..<$0]) } ?? "."
        let parent = directory.lastIndex(of: "/").map { String(directory[..<$0]) } ?? ""
        let installed = parent + "/lib/clinker"
        return access(installed, R_OK) == 0 ? installed : directory
    }
}
