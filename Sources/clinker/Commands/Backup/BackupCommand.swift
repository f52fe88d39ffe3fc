import ArgumentParser
import JSON

struct BackupCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "backup", abstract: "Look at backups, read them, check them, and look after their repositories.",
        subcommands: [
            BackupList.self, BackupShow.self, BackupServe.self, BackupVerify.self, BackupKey.self, BackupPrune.self,
            BackupImportRepository.self,
        ])

    /// A member as a table shows it.
    static func text(_ value: JSON?) -> String {
        guard let value, value != .null else { return "-" }
        return value.string ?? value.text
    }
}
