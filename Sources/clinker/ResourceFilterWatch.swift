import BlockAPI
import Logging
import Primitives
import Settings

/// What lists may be filtered by; the file is read again when it changes. A broken file is refused at the start; later it is an error in
/// the log, and the filters before stay in force.
final class ResourceFilterWatch: Sendable {
    private let file: ResourceFilterFile
    private let log: Logger
    private let watch: FileWatch
    private let filters: Guarded<ResourceFilters>

    /// - Parameter files: the configuration files; a relative path is resolved beside the last one.
    init(_ settings: Settings, files: [String], log: Logger) throws(SettingsError) {
        self.log = log
        file = ResourceFilterFile(settings, beside: files)
        watch = FileWatch(file.path)
        filters = Guarded(try file.load())
    }

    var current: ResourceFilters { filters.withLock { $0 } }

    func start() {
        tell(current)
        watch.start("filters") { [self] in
            do throws(SettingsError) {
                let fresh = try file.load()
                filters.withLock { $0 = fresh }
                log.info("resource filters read again", metadata: ["file": "\(file.path)"])
                tell(fresh)
            } catch {
                for line in error.problems { log.error("resource filters not read again: \(line)") }
            }
        }
    }

    private func tell(_ filters: ResourceFilters) { for line in file.warnings(filters) { log.warning("\(line)") } }
}
