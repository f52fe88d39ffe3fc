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

    func values() throws -> DriverValue {
        var members: [DriverValue.Member] = []
        for option in options {
            guard let equals = option.firstIndex(of: "="), equals != option.startIndex else {
                throw SettingsError(["--set \(option): must be key=value"])
            }
            members.append(DriverValue.Member(String(option[..<equals]), .string(String(option[option.index(after: equals)...]))))
        }
        return .object(members)
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
