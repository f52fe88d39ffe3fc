import ArgumentParser
import DriverHost

/// The process that opens one driver. Started by the core.
struct DriverHostCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "driver-host", shouldDisplay: false)

    /// Only shown in process lists; the plugin and its options come over the connection.
    @Option var backend: String
    @Option var descriptor: Int32

    func run() throws { HostProcess.run(descriptor: descriptor) }
}
