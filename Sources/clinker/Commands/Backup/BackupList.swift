import ArgumentParser
import JSON

struct BackupList: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "List the backups of all projects, newest first.")
    @OptionGroup var options: ConfigurationOptions
    @Option(help: "Only those of this volume.") var volume: String?
    @Option(help: "Only those of this project.") var project: String?
    @Option(help: "Only those in this state.") var status: String?
    @Option(help: "How many.") var limit = 1000
    @Flag(help: "Write JSON.") var json = false

    func run() throws {
        do {
            var target = "/v3/backups/detail?all_tenants=1&limit=\(limit)"
            for (name, value) in [("volume_id", volume), ("project_id", project), ("status", status)] {
                if let value { target += "&\(name)=\(URLText.encoded(value))" }
            }
            let answer = try ControlSocket.command(options, "GET", target)
            if json { return print(answer.text) }
            for backup in answer["backups"]?.array ?? [] {
                let cells = [
                    "id", "status", "clinker:verify_status", "size", "is_incremental", "volume_id", "os-backup-project-attr:project_id",
                    "created_at", "name",
                ]
                print(cells.map { BackupCommand.text(backup[$0]) }.joined(separator: "\t"))
            }
        } catch { Exit.fail(error, status: 1) }
    }
}

struct BackupShow: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "Show a backup, where its objects lie and on top of which others it was made.")
    @OptionGroup var options: ConfigurationOptions
    @Argument(help: "The backup's id.") var id: String
    @Flag(help: "Write JSON.") var json = false

    func run() throws {
        do {
            let path = "/v3/backups/\(URLText.encoded(id))"
            let backup = try ControlSocket.command(options, "GET", path)["backup"] ?? .null
            // One that is being made or removed lies nowhere for certain.
            let layout = try? ControlSocket.command(options, "GET", path + "/layout")["layout"]
            if json { return print((["backup": backup, "layout": layout ?? .null] as JSON).text) }
            for member in backup.object?.members ?? [] where member.name != "links" {
                print("\(member.name): \(BackupCommand.text(member.value))")
            }
            guard let layout else { return }
            print("store: \(BackupCommand.text(layout["store"]))")
            print("format: \(BackupCommand.text(layout["format"]))")
            // In a repository none needs another.
            let words = layout["format"] == "repository" ? "made on top of" : "rests on"
            for backup in layout["chain"]?.array?.dropLast() ?? [] { print("\(words): \(BackupCommand.text(backup["id"]))") }
        } catch { Exit.fail(error, status: 1) }
    }
}
