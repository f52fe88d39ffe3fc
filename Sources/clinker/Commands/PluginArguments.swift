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

    func path() throws -> String { try Plugin.path(named: driver, in: directory.value) }

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
    /// The plugin that a command names: as in `volume_driver`, or by a path relative to the working directory.
    static func path(named driver: String, in directory: String) throws(PluginError) -> String {
        guard driver.contains("/"), !driver.hasPrefix("/") else { return try path(for: driver, in: directory) }
        var buffer = [CChar](repeating: 0, count: 4096)
        return (getcwd(&buffer, buffer.count).map { String(cString: $0) } ?? "") + "/" + driver
    }
}
