import DriverHost
import Settings

/// What is wrong with the backends of a configuration, found without opening their storage: drivers that are not there, options that
/// no driver reads, values that a driver would refuse.
enum BackendOptions {
    static func examine(_ settings: Settings) -> (problems: [String], notServed: [String]) {
        var problems: [String] = []
        var notServed: [String] = []
        let directory = settings[Options.pluginDirectory]
        for backend in settings[Options.enabledBackends] {
            let driver = settings[Options.volumeDriver, backend: backend]
            guard !driver.isEmpty else {
                problems.append("[\(backend)] volume_driver is not set")
                continue
            }
            do throws(PluginError) {
                let path = try Plugin.path(for: driver, in: directory.isEmpty ? Plugin.defaultDirectory() : directory)
                let plugin = try Plugin(path: path)
                guard let options = plugin.options else { continue }
                let found = settings.examine(
                    backend: backend, driver: plugin.name, options: options.map { OptionDeclaration($0) })
                problems += found.problems + found.unknown
                notServed += found.notServed
            } catch { problems.append("[\(backend)] \(error)") }
        }
        return (problems, notServed)
    }
}

extension OptionDeclaration {
    /// As a plugin declares it.
    init(_ option: PluginOption) {
        let typeName =
            switch option.kind {
            case .text: String.typeName
            case .integer: Int.typeName
            case .real: Double.typeName
            case .boolean: Bool.typeName
            case .list: [String].typeName
            case .secret: "secret"
            }
        self = .ofDriver(
            option.name, typeName: typeName, defaultText: option.standard, range: option.range,
            choices: option.choices.isEmpty ? nil : option.choices, help: option.help)
    }
}
