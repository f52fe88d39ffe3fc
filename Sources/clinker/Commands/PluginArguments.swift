import ArgumentParser
import DriverHost
import Glibc
import Settings

/// The arguments of commands that take a driver and its options.
struct PluginArguments: ParsableArguments {
    @Argument(help: "A driver's name, or the path of a plugin.") var driver: String
    @ArgumentParser.Option(name: .customLong("set"), help: "key=value: an option of the backend's section; may be repeated.")
    var options: [String] = []
    @OptionGroup var directory: DriverCommand.Directory

    /// - Parameter kind: what the name is looked for among first; volume drivers, if nothing is said.
    func path(_ kind: PluginKind? = nil) throws -> String { try Plugin.path(named: driver, in: directory.value, kind) }

    func values() throws -> DriverValue { .object(try settings().map { DriverValue.Member($0.name, .string($0.value)) }) }

    /// Refuses an option that nobody reads: the driver would work in other storage than was meant.
    func check(_ plugin: any LoadedPlugin) throws {
        guard let declared = plugin.options else { return }
        // What the host gives every driver.
        let known = declared.map(\.name) + ["state_dir", "backend"]
        for setting in try settings() {
            if let problem = OptionCatalogue.clinker.problem(ofBackendOption: setting.name, besides: known) {
                throw SettingsError(["--set \(setting.name): \(problem)"])
            }
        }
    }

    private func settings() throws -> [(name: String, value: String)] {
        try options.map { option in
            guard let equals = option.firstIndex(of: "="), equals != option.startIndex else {
                throw SettingsError(["--set \(option): must be key=value"])
            }
            return (String(option[..<equals]), String(option[option.index(after: equals)...]))
        }
    }
}

extension Plugin {
    /// The plugin that a command names: as in `volume_driver` or `backup_driver`, or by a path relative to the working directory.
    static func path(named driver: String, in directory: String, _ kind: PluginKind? = nil) throws(PluginError) -> String {
        guard driver.contains("/"), !driver.hasPrefix("/") else {
            do { return try path(for: driver, in: directory, kind: kind ?? .volume) } catch {
                // A store by its plain name.
                guard kind == nil, let store = try? path(for: driver, in: directory, kind: .store) else { throw error }
                return store
            }
        }
        var buffer = [CChar](repeating: 0, count: 4096)
        return (getcwd(&buffer, buffer.count).map { String(cString: $0) } ?? "") + "/" + driver
    }
}
