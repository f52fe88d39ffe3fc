import KeyManager
import Logging
import OpenStack
import Primitives
import Settings

/// One look at the services that requests will need, some time after the start: the log tells of a wrong account or address before the first
/// request does. Nothing is refused for it, since services start in any order.
struct FirstLook: Sendable {
    /// A service, the options that say where it is and who asks, and one cheap request to it.
    struct Service: Sendable {
        let name: String
        let options: String
        let ask: @Sendable () async throws -> Void
    }

    /// Asked before the others, which need its tokens.
    private let keystone: Service?
    private let others: [Service]
    private let delay: Int
    private let log: Logger

    init(_ settings: Settings, keystone: Keystone?, glance: Glance?, nova: Nova?, keys: any KeyManager, log: Logger) {
        self.log = log
        delay = settings[Options.service.lookDelay]
        func said<T>(_ options: Option<T>...) -> String {
            "[\(options[0].declaration.sectionName)] "
                + options.map { "\($0.declaration.name) = \(settings[$0].text)" }.joined(separator: ", ")
        }
        let account = settings[Options.keystone.authType] == "v3applicationcredential" ? "the application credential" : "username, password"
        self.keystone = keystone.map { keystone in
            Service(name: "Keystone", options: said(Options.keystone.authURLs) + ", " + account) { _ = try await keystone.serviceToken() }
        }
        var others: [Service] = []
        if let glance {
            let isNamed = !settings[Options.glance.servers].isEmpty
            let place = isNamed ? said(Options.glance.servers) : said(Options.glance.catalogue) + ", " + said(Options.glance.region)
            others.append(Service(name: "Glance", options: place) { try await glance.look() })
        }
        if KeyManagers.isBarbican(settings) {
            let isNamed = !settings[Options.barbican.endpoint].isEmpty
            let place = isNamed ? said(Options.barbican.endpoint) : said(Options.barbican.endpointType, Options.barbican.region)
            others.append(Service(name: "Barbican", options: "[key_manager] backend = barbican, " + place) { try await keys.look() })
        }
        if let nova {
            others.append(Service(name: "Nova", options: said(Options.nova.interface, Options.nova.region)) { try await nova.look() })
        }
        self.others = others
    }

    /// Looks once, in the background.
    ///
    /// - Parameter isStopping: whether it is too late.
    func start(isStopping: Guarded<Bool>) {
        guard delay > 0, keystone != nil || !others.isEmpty else { return }
        Task {
            try? await Task.sleep(nanoseconds: UInt64(delay) * 1_000_000_000)
            if !isStopping.withLock({ $0 }) { await look() }
        }
    }

    private func look() async {
        // Without a token nothing can be asked.
        if let keystone, await !answers(keystone) { return }
        let isGood = await withTaskGroup(of: Bool.self) { group in
            for service in others { group.addTask { await answers(service) } }
            return await group.reduce(true) { $0 && $1 }
        }
        guard isGood else { return }
        let names = ([keystone].compactMap { $0 } + others).map(\.name)
        log.info("the services that are used answer", metadata: ["services": "\(names.joined(separator: ", "))"])
    }

    private func answers(_ service: Service) async -> Bool {
        do {
            try await service.ask()
            return true
        } catch {
            let told = "\(service.name) cannot be used, and what needs it fails until it can: \(error) (\(service.options))"
            log.warning("\(Self.withoutPasswords(told))")
            return false
        }
    }

    /// The text without what stands before the host in URLs.
    static func withoutPasswords(_ text: String) -> String {
        var result = ""
        var rest = text[...]
        while let start = rest.firstRange(of: "://") {
            result += rest[..<start.upperBound]
            rest = rest[start.upperBound...]
            let authority = rest.prefix { $0 != "/" && $0 != " " && $0 != "," }
            if let at = authority.lastIndex(of: "@") { rest = rest[rest.index(after: at)...] }
        }
        return result + rest
    }
}
