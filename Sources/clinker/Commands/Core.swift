import ArgumentParser

/// The process that holds the API, the flows and the database. Started by `serve`.
struct Core: ParsableCommand {
    static let configuration = CommandConfiguration(shouldDisplay: false)

    @OptionGroup var options: ConfigurationOptions

    func run() throws {
        CoreProcess.blockSignals()
        do {
            try CoreProcess(options).run()
        } catch {
            Exit.fail(error)
        }
    }
}
