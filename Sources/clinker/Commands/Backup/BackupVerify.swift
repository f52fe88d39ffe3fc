import ArgumentParser
import JSON
import Primitives
import Settings

struct BackupVerify: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify", abstract: "Read all that a backup needs and check it; a line for each damage.",
        discussion: """
            Ends with status 1 if something is damaged. The backup, and all others that use what is damaged, are marked, and the next \
            backup of the volume stores it anew.
            """)
    @OptionGroup var options: ConfigurationOptions
    @Argument(help: "The backup's id.") var id: String

    func run() throws {
        var damages: [JSON] = []
        do {
            let path = "/v3/backups/\(URLText.encoded(id))"
            let before = try newest()
            _ = try ControlSocket.command(options, "POST", path + "/action", ["clinker:verify": [:]])
            let operation = try wait(after: before)
            if operation["state"]?.string != "done" {
                throw SettingsError(["the backup could not be verified: \(BackupCommand.text(operation["error"]))"])
            }
            damages = try ControlSocket.command(options, "GET", path + "/damages")["damages"]?.array ?? []
        } catch { Exit.fail(error, status: 2) }
        for damage in damages {
            let place = damage["start"]?.integer.map { start in
                " (bytes \(start) to \(start + (damage["length"]?.integer ?? 0)) of the volume)"
            }
            print("damaged: \(BackupCommand.text(damage["text"]))\(place ?? "")")
        }
        guard damages.isEmpty else { throw ExitCode(1) }
        print("\(id): good")
    }

    /// The latest verification of the backup.
    private func newest() throws -> JSON? {
        let target = "/v3/operations?all_tenants=1&limit=20&resource_id=\(URLText.encoded(id))"
        return try ControlSocket.command(options, "GET", target)["operations"]?.array?.first { $0["flow"]?.string == "backup.verify" }
    }

    /// The end of the verification that came after another one.
    private func wait(after before: JSON?) throws -> JSON {
        while true {
            if let operation = try newest(), operation["id"] != before?["id"],
                let state = operation["state"]?.string, state == "done" || state == "failed"
            {
                return operation
            }
            pause(0.2)
        }
    }
}
