import ArgumentParser
import DriverHost

/// The process that opens one driver. Started by the core.
struct DriverHostCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "driver-host", shouldDisplay: false)

    /// For process lists only: what is served comes over the wire.
    @Option var backend: String
    @Option var descriptor: Int32

    func run() throws { HostProcess.run(descriptor: descriptor) }
}
