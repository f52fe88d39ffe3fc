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

/// Finds all problems for which `clinker serve` refuses a configuration, without network or storage, and making nothing.
enum ConfigurationCheck {
    /// What is looked at.
    private struct Subject {
        let options: ConfigurationOptions
        let settings: Settings
        /// Whether the caller is the user who runs the service, whose files and permissions count.
        let isOwned: Bool

        var node: String { settings[Options.service.host] }
        var authStrategy: String { settings[Options.service.authStrategy] }
    }

    /// Every reason that a configuration gives to refuse a start: `serve` runs this list before anything else, and `config check` does. What a
    /// part of the core would refuse for itself stands here, so that it is told before there is a core.
    private static let checks: [@Sendable (Subject) throws -> [String]] = [
        { $0.settings.exposures(isOwned: $0.isOwned) },
        { subject in
            guard subject.settings[Options.service.enabledBackends].isEmpty else { return [] }
            return [
                "[DEFAULT] enabled_backends names no backend: add one, for example 'enabled_backends = file' and a section [file] with 'volume_driver = file'"
            ]
        },
        { try $0.options.problems(ofStateDirectory: $0.settings, isOwned: $0.isOwned) },
        { LogPlace($0.settings).problems(isOwned: $0.isOwned) },
        { try nothing(ServerTLS.endpoint($0.settings, isOwned: $0.isOwned)) },
        { try $0.options.problems(ofDatabase: $0.settings, isOwned: $0.isOwned) },
        { try nothing(Backends($0.settings, node: $0.node, stateDirectory: "/", log: LogSink().logger("backend"))) },
        { try nothing(BackupStoreHosts($0.settings, stateDirectory: "/", log: LogSink().logger("store"))) },
        { try nothing(Scheduler($0.settings)) },
        { try nothing(NotificationSettings($0.settings, node: $0.node)) },
        { try nothing(HealthcheckMiddleware($0.settings)) },
        { try nothing(PolicyFiles($0.settings, beside: $0.options.files).load()) },
        { try nothing(ResourceFilterFile($0.settings, beside: $0.options.files).load()) },
        { try nothing(BlockAPI.check($0.settings)) },
        { try nothing(KeyManagers.check($0.settings, hasKeystone: $0.authStrategy == "keystone")) },
        { subject in
            switch subject.authStrategy {
            case "keystone": Keystone.problems(subject.settings)
            case "http_basic": BasicUsers.problems(subject.settings)
            default: []
            }
        },
        { CoreProcess.problems(ofInstanceLocator: $0.settings) },
        { Glance.problems($0.settings) },
        { GlanceAccess.problems($0.settings, isOwned: $0.isOwned) },
        // Its settings may be refused above already.
        { subject in (try? ServiceFiles.problems(subject.settings, isOwned: subject.isOwned)) ?? [] },
    ]

    /// The problems of what could be made.
    private static func nothing<T>(_ made: T) -> [String] { [] }

    /// Checks a configuration.
    ///
    /// - Parameters:
    ///   - insecureNoAuth: whether `noauth` is allowed on addresses other than loopback.
    ///   - isOwned: whether files must belong to the caller or root.
    /// - Returns: the problems, and the checked address. Bind this one: a name may resolve to another address later.
    static func examine(
        _ options: ConfigurationOptions, _ settings: Settings, insecureNoAuth: Bool = false, isOwned: Bool = true
    ) -> (problems: [String], endpoint: ListenAddress?) {
        var problems: [String] = []
        var endpoint: ListenAddress?
        func attempt(_ body: () throws -> [String]) {
            do { problems += try body() } catch let error as SettingsError { problems += error.problems } catch {
                problems.append("\(error)")
            }
        }
        let subject = Subject(options: options, settings: settings, isOwned: isOwned)
        for check in checks { attempt { try check(subject) } }
        attempt {
            let judged = try ListenAddress(settings[Options.service.listen], settings[Options.service.listenPort])
            endpoint = judged
            return refusals(of: settings, on: judged, insecureNoAuth: insecureNoAuth)
        }
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
