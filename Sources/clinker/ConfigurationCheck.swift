import BlockAPI
import BlockStorage
import DriverHost
import Flows
import HTTPServer
import KeyManager
import Notifications
import Observability
import OpenStack
import Primitives
import Settings

/// Finds all problems for which `clinker serve` refuses a configuration, without network, storage or a state directory.
enum ConfigurationCheck {
    /// Checks a configuration.
    ///
    /// - Parameters:
    ///   - insecureNoAuth: whether `noauth` is allowed on addresses other than loopback.
    ///   - isOwned: whether files must belong to the caller or root.
    /// - Returns: the problems, and the checked address. Bind this one: a name may resolve to another address later.
    static func examine(
        _ options: ConfigurationOptions, _ settings: Settings, insecureNoAuth: Bool = false, isOwned: Bool = true
    ) -> (problems: [String], endpoint: ListenAddress?) {
        var problems = settings.exposures(isOwned: isOwned)
        var endpoint: ListenAddress?
        func attempt(_ body: () throws -> Void) {
            do { try body() } catch let error as SettingsError { problems += error.problems } catch { problems.append("\(error)") }
        }
        if settings[Options.service.enabledBackends].isEmpty {
            problems.append(
                "[DEFAULT] enabled_backends names no backend: add one, for example 'enabled_backends = file' and a section [file] with 'volume_driver = file'"
            )
        }
        attempt { if let exposed = try options.exposure(ofStateDirectory: settings) { problems.append(exposed) } }
        attempt {
            let judged = try ListenAddress(settings[Options.service.listen], settings[Options.service.listenPort])
            problems += refusals(of: settings, on: judged, insecureNoAuth: insecureNoAuth)
            endpoint = judged
        }
        attempt { _ = try ServerTLS.endpoint(settings, isOwned: isOwned) }
        attempt { _ = try ConfigurationOptions.databasePath(settings, stateDirectory: "/") }
        attempt { _ = try Backends(settings, node: settings[Options.service.host], stateDirectory: "/", log: LogSink().logger("backend")) }
        attempt { _ = try BackupStoreHosts(settings, stateDirectory: "/", log: LogSink().logger("store")) }
        attempt { _ = try Scheduler(settings) }
        attempt { _ = try NotificationSettings(settings, node: settings[Options.service.host]) }
        attempt { _ = try HealthcheckMiddleware(settings) }
        attempt { _ = try PolicyFiles(settings, beside: options.files).load() }
        attempt { _ = try ResourceFilterFile(settings, beside: options.files).load() }
        attempt { try BlockAPI.check(settings) }
        attempt { try KeyManagers.check(settings, hasKeystone: settings[Options.service.authStrategy] == "keystone") }
        switch settings[Options.service.authStrategy] {
        case "keystone": problems += Keystone.problems(settings)
        case "http_basic": problems += BasicUsers.problems(settings)
        default: break
        }
        problems += Glance.problems(settings)
        var seen: Set<String> = []
        return (problems.filter { seen.insert($0).inserted }, endpoint)
    }

    /// Settings that are refused with noauth, since everybody is an administrator.
    private static func refusals(of settings: Settings, on endpoint: ListenAddress, insecureNoAuth: Bool) -> [String] {
        guard settings[Options.service.authStrategy] == "noauth" else { return [] }
        var problems: [String] = []
        if !insecureNoAuth, !endpoint.isLoopback {
            problems.append(
                "with auth_strategy = noauth everybody is admin: osapi_volume_listen = \(endpoint.name) is refused; listen on 127.0.0.1, or say --insecure-noauth"
            )
        }
        if settings[Options.service.allowedOrigin].contains("*") {
            problems.append(
                "with auth_strategy = noauth everybody is admin: [cors] allowed_origin = * would make every web page one; name the origins")
        }
        return problems
    }

    /// Problems of the sections of backends and stores that depend on their plugins: invalid values, unknown options.
    static func drivers(_ settings: Settings) -> (problems: [String], notServed: [String]) {
        var problems: [String] = []
        var notServed: [String] = []
        let directory = settings[Options.service.pluginDirectory]
        for backend in settings[Options.service.enabledBackends] {
            let driver = settings[Options.backend.driver, backend: backend]
            // A missing plugin was reported already.
            guard let path = try? Plugin.path(for: driver, in: directory.isEmpty ? Plugin.defaultDirectory() : directory) else { continue }
            do throws(PluginError) {
                let plugin = try Plugin(path: path)
                guard let options = plugin.options else { continue }
                let found = settings.examine(backend: backend, driver: plugin.name, options: options.map { OptionDeclaration($0) })
                problems += found.problems + found.unknown
                notServed += found.notServed
            } catch { problems.append("[\(backend)] \(error)") }
        }
        for store in settings.backupStores {
            let driver = settings[Options.store.driver, store: store]
            let path: String
            do throws(PluginError) {
                path = try Plugin.path(for: driver, in: directory.isEmpty ? Plugin.defaultDirectory() : directory, kind: .store)
            } catch {
                // Of a store with a section it was reported already.
                if store == Settings.unnamedStore { notServed.append("[DEFAULT] \(error)") }
                continue
            }
            do throws(PluginError) {
                let plugin = try StorePlugin(path: path)
                guard let options = plugin.options else { continue }
                let found = settings.examine(store: store, plugin: plugin.name, options: options.map { OptionDeclaration($0) })
                problems += found.problems + found.unknown
                notServed += found.notServed
            } catch { problems.append("[\(store)] \(error)") }
        }
        return (problems, notServed)
    }
}

extension OptionDeclaration {
    /// Converts a plugin's declaration.
    init(_ option: PluginOption) {
        let typeName =
            switch option.kind {
            case .text: String.typeName
            case .integer: Int.typeName
            case .real: Double.typeName
            case .boolean: Bool.typeName
            case .list: [String].typeName
            case .secret: "secret"
            case .unused: OptionDeclaration.unused
            }
        self = .ofDriver(
            option.name, typeName: typeName, defaultText: option.standard, range: option.range,
            choices: option.choices.isEmpty ? nil : option.choices, help: option.help)
    }
}
