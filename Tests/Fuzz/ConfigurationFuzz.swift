import BlockAPI
import BlockStorage
import OpenStack
import Settings

/// A configuration is refused with lines that name what is wrong, or every option has a value of its type.
enum ConfigurationFuzz {
    private static let known = OptionCatalogue(
        Options.service, Options.api, Options.storage, Options.scheduler, Options.backend, Options.keystone)

    static func run(_ bytes: UnsafeRawBufferPointer) {
        guard let text = String(validating: bytes, as: UTF8.self) else { return }
        do throws(SettingsError) {
            let settings = try Settings(text: text, known: known)
            if settings[Options.service.listenPort] > 65_535 || settings[Options.service.listenPort] < 0 {
                violated("a port out of its range")
            }
            if settings[Options.service.maxBody] < 1024 { violated("max_request_body_size out of its range") }
            for backend in settings[Options.service.enabledBackends] {
                if settings[Options.backend.reservedPercentage, backend: backend] > 100 { violated("reserved_percentage out of its range") }
                _ = settings.backendOptions(backend)
            }
            _ = settings[Options.service.statePath] + settings[Options.service.connection].reveal()
        } catch {
            if error.problems.isEmpty { violated("refused without a reason") }
        }
    }
}
