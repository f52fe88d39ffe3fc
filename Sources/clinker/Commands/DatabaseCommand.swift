import ArgumentParser
import BlockStorage
import Database
import Settings

struct DatabaseCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "db", abstract: "Look after the database.", subcommands: [Check.self, Backup.self])

    struct Check: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Check that the database is whole; the service may be running.")
        @OptionGroup var options: ConfigurationOptions

        func run() throws {
            do {
                let path = try options.databasePath()
                let problems = try SQLiteMaintenance.check(path: path, migrations: Schema.migrations)
                if !problems.isEmpty { throw SettingsError(problems.map { "\(path): \($0)" }) }
                print("\(path): good")
            } catch { Exit.fail(error, status: 1) }
        }
    }

    struct Backup: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Copy the database as of now; the service may be running.")
        @OptionGroup var options: ConfigurationOptions
        @Argument(help: "The file to write; it must not exist.") var file: String

        func run() throws {
            do {
                try SQLiteMaintenance.backup(path: try options.databasePath(), to: file)
                print("\(file): written")
            } catch { Exit.fail(error, status: 1) }
        }
    }
}
