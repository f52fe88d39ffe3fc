import HTTPServer
import Settings

extension HealthcheckMiddleware {
    /// As `[healthcheck]` says.
    init(_ settings: Settings, trouble: @escaping @Sendable () -> String? = { nil }) throws(SettingsError) {
        let options = Options.service
        do throws(Healthcheck.Problem) {
            self.init(
                try Healthcheck(
                    backends: settings[options.healthBackends], disablingFile: settings[options.disableByFile],
                    disablingFiles: settings[options.disableByFiles], port: settings[options.listenPort],
                    enablingFiles: settings[options.enableByFiles]),
                trouble: trouble)
        } catch { throw SettingsError(["[healthcheck] \(error)"]) }
        for text in settings[options.healthRanges] {
            guard let range = AddressRange(text) else {
                throw SettingsError(["[healthcheck] allowed_source_ranges: '\(text)' is no network, such as 10.0.0.0/8"])
            }
            allowed.append(range)
        }
        ignoresProxied = settings[options.healthIgnoresProxied]
        detailedVersion = settings[options.detailedHealth] ? Clinker.version : nil
    }
}
