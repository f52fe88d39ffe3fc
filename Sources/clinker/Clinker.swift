import ArgumentParser
import Glibc

@main
struct Clinker: ParsableCommand {
    static let version = "0.1.0"

    static func main() {
        // Files written by commands (copies of the database, logs, new drivers) must not be readable by others.
        umask(0o077)
        Self.main(nil)
    }

    static let configuration = CommandConfiguration(
        commandName: "clinker",
        abstract: "A block-storage service: the OpenStack Block Storage API v3 in front, storage drivers behind.",
        version: version,
        subcommands: [
            Serve.self, Config.self, DriverCommand.self, DatabaseCommand.self, DoctorCommand.self, OperationCommand.self,
            ServiceCommand.self, BackupCommand.self, PolicyCommand.self, NotificationCommand.self,
            Core.self, DriverHostCommand.self, TransferCommand.self,
        ])
}
