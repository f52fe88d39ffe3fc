import ArgumentParser
import Transfers

/// The process of one copy, or of work on one backup. Started by the core.
struct TransferCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "transfer", shouldDisplay: false)

    /// Only shown in process lists; the work is described over the connection.
    @Option var job: String
    @Option var from: String
    @Option var to: String
    @Option var descriptor: Int32

    func run() throws { TransferProcess.run(descriptor: descriptor) }
}
