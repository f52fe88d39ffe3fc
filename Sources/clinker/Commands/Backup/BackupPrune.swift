import ArgumentParser
import JSON

struct BackupPrune: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "prune", abstract: "Free the space of what no backup needs.",
        discussion: """
            What is not needed is marked, and removed by a prune a day later. Backups may be made meanwhile. To be run once a day. Ends \
            with status 1 if nothing could be removed from a repository, since something in it cannot be read.
            """)
    @OptionGroup var options: ConfigurationOptions
    @Option(help: "Only the repository of this project.") var project: String?
    @Option(help: "The store; it may be left out where there is one.") var store: String?
    @Flag(help: "Write JSON.") var json = false

    func run() throws {
        var isHindered = false
        do {
            let answer = try ControlSocket.command(
                options, "POST", "/v3/backup-repositories/prune", ["prune": ["project_id": JSON(project), "store": JSON(store)]],
                seconds: 0)
            let repositories = answer["repositories"]?.array ?? []
            isHindered = repositories.contains { $0["problem"] != nil }
            if json { print(answer.text) }
            for repository in json ? [] : repositories {
                if let problem = repository["problem"]?.string {
                    print("\(BackupCommand.text(repository["project_id"])): nothing removed: \(problem)")
                    continue
                }
                func count(_ name: String) -> Int64 { repository[name]?.integer ?? 0 }
                print(
                    "\(BackupCommand.text(repository["project_id"])): \(count("removed")) packs removed (\(count("removed_bytes")) bytes), "
                        + "\(count("marked")) marked, \(count("repacked")) of them repacked, \(count("waiting")) wait, "
                        + "\(count("recovered")) are needed again")
                if count("missing_chunks") > 0 {
                    print("    \(count("missing_chunks")) chunks that backups need are missing: `clinker backup verify` names them")
                }
                for pack in repository["damaged"]?.array ?? [] { print("    damaged: pack \(BackupCommand.text(pack))") }
            }
        } catch { Exit.fail(error, status: 1) }
        if isHindered { throw ExitCode(1) }
    }
}

struct BackupImportRepository: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import-repository", abstract: "Bring backups back whose rows in the database are lost.",
        discussion: """
            Every backup in a store's repositories that the database does not have gets a row in its own project, as it was recorded with \
            the backup. What the database has is left as it is. Ends with status 1 if a record could not be read.
            """)
    @OptionGroup var options: ConfigurationOptions
    @Option(help: "Only the repository of this project.") var project: String?
    @Option(help: "The store; it may be left out where there is one.") var store: String?
    @Flag(help: "Write JSON.") var json = false

    func run() throws {
        var skipped: [JSON] = []
        do {
            let answer =
                try ControlSocket.command(
                    options, "POST", "/v3/backup-repositories/import", ["import": ["project_id": JSON(project), "store": JSON(store)]],
                    seconds: 0)["import"] ?? .null
            skipped = answer["skipped"]?.array ?? []
            if json {
                print(answer.text)
            } else {
                for id in answer["imported"]?.array ?? [] { print("imported: \(BackupCommand.text(id))") }
                for item in skipped {
                    let name = item["backup_id"]?.string ?? "snapshot \(BackupCommand.text(item["snapshot"]))"
                    print("skipped: \(name) of project \(BackupCommand.text(item["project_id"])): \(BackupCommand.text(item["reason"]))")
                }
                print(
                    "\(answer["imported"]?.array?.count ?? 0) imported, \(answer["existing"]?.integer ?? 0) were there, \(skipped.count) skipped"
                )
            }
        } catch { Exit.fail(error, status: 2) }
        if !skipped.isEmpty { throw ExitCode(1) }
    }
}
