import BlockStorage
import HTTPServer
import KeyManager
import Notifications
import OpenStack
import Settings

/// The files with which Clinker speaks TLS to other services, by the options that name them. A service that is reached over HTTP has a row
/// here.
enum ServiceFiles {
    /// The options of one service.
    private struct Row: Sendable {
        let authorities: Option<String>
        let certificate, key: Option<String>?
        /// Whether a configuration asks the service for anything.
        let isAsked: @Sendable (Settings) -> Bool
    }

    private static let rows = [
        Row(
            authorities: Options.keystone.caFile, certificate: Options.keystone.certFile, key: Options.keystone.keyFile,
            isAsked: usesKeystone),
        Row(authorities: Options.nova.caFile, certificate: Options.nova.certFile, key: Options.nova.keyFile, isAsked: usesKeystone),
        Row(
            authorities: Options.glance.authorities, certificate: Options.glance.certificate, key: Options.glance.key,
            isAsked: { _ in true }),
        Row(authorities: Options.barbican.authorities, certificate: nil, key: nil, isAsked: KeyManagers.isBarbican),
    ]

    /// Whether Keystone is asked: about the tokens of users, or for one of Clinker's own.
    static func usesKeystone(_ settings: Settings) -> Bool {
        settings[Options.service.authStrategy] == "keystone" || Scheduler.asksForInstances(settings)
    }

    /// Which files cannot be used, and why: a line each.
    static func problems(_ settings: Settings, isOwned: Bool) throws(SettingsError) -> [String] {
        func file(_ option: Option<String>?) -> TLSClientFiles.File? {
            guard let option, !settings[option].isEmpty else { return nil }
            return TLSClientFiles.File(
                option: "[\(option.declaration.sectionName)] \(option.declaration.name)", path: settings[option])
        }
        var services = rows.filter { $0.isAsked(settings) }.map {
            TLSClientFiles(authorities: file($0.authorities), certificate: file($0.certificate), key: file($0.key), isOwned: isOwned)
        }
        if let files = try NotificationSettings(settings, node: settings[Options.service.host])?.tlsFiles {
            // The options may stand in transport_url as well.
            func named(_ option: Option<String>, _ path: String?) -> TLSClientFiles.File? {
                path.map { TLSClientFiles.File(option: "[\(option.declaration.sectionName)] \(option.declaration.name)", path: $0) }
            }
            services.append(
                TLSClientFiles(
                    authorities: named(Options.rabbit.authorities, files.authorities),
                    certificate: named(Options.rabbit.certificate, files.certificate), key: named(Options.rabbit.key, files.key),
                    isOwned: isOwned))
        }
        return services.flatMap { $0.problems() }
    }
}
