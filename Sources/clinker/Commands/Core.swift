import ArgumentParser

/// The process that holds the API, the flows and the database. Started by `serve`.
struct Core: ParsableCommand {
    static let configuration = CommandConfiguration(shouldDisplay: false)

    @OptionGroup var options: ConfigurationOptions
    /// How often the supervisor has restarted it.
    @Option var restarts = 0

    func run() throws {
        CoreProcess.blockSignals()
        do {
            try CoreProcess(options, restarts: restarts).run()
        } catch {
            Exit.fail(error)
        }
    }
}
