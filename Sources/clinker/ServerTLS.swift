import HTTPServer
import Settings

/// TLS in front of the API, as `[ssl]` asks for it.
enum ServerTLS {
    /// The files and algorithms; nil without TLS.
    ///
    /// - Parameter isOwned: whether the files must belong to root or the service's user.
    static func configuration(_ settings: Settings, isOwned: Bool = true) throws(SettingsError) -> TLSConfiguration? {
        guard settings[Options.tls.isUsed] else { return nil }
        var problems: [String] = []
        func take<T>(_ option: Option<String>, _ read: (String) throws(TLSProblem) -> T) -> T? {
            do throws(TLSProblem) { return try read(settings[option]) } catch {
                problems += error.problems.map { "[ssl] \(option.declaration.name) \($0)" }
                return nil
            }
        }
        for option in [Options.tls.certFile, Options.tls.keyFile] where settings[option].isEmpty {
            problems.append("[ssl] \(option.declaration.name) is not set: osapi_volume_use_ssl needs it")
        }
        let versions = take(Options.tls.version) { text throws(TLSProblem) in try TLSVersions(named: text) }
        let ciphers = take(Options.tls.ciphers) { text throws(TLSProblem) in try TLSCiphers(list: text) }
        guard problems.isEmpty, let versions, let ciphers else { throw SettingsError(problems) }
        let authorities = settings[Options.tls.caFile]
        return TLSConfiguration(
            certificateFile: settings[Options.tls.certFile], keyFile: settings[Options.tls.keyFile],
            authoritiesFile: authorities.isEmpty ? nil : authorities, versions: versions, ciphers: ciphers, isOwned: isOwned)
    }

    /// Reads the files; nil without TLS.
    static func endpoint(_ settings: Settings, isOwned: Bool = true) throws(SettingsError) -> TLSEndpoint? {
        guard let configuration = try configuration(settings, isOwned: isOwned) else { return nil }
        do throws(TLSProblem) { return try TLSEndpoint(configuration) } catch { throw SettingsError(error.problems.map { "[ssl] \($0)" }) }
    }
}

extension CoreProcess {
    /// Reads certificate, key and authorities again; what cannot be used is logged, and those in use stay.
    func renewCertificates(_ settings: Settings) {
        guard let tls else { return }
        do {
            guard let configuration = try ServerTLS.configuration(settings) else { return }
            try tls.replace(configuration)
            log.info("certificate read again", metadata: ["file": "\(configuration.certificateFile)"])
            if let warning = tls.warning() { log.warning("[ssl] \(warning)") }
        } catch let error as TLSProblem {
            for problem in error.problems { log.error("certificate not read again, the one in use stays: [ssl] \(problem)") }
        } catch { log.error("certificate not read again, the one in use stays: \(error)") }
    }
}
