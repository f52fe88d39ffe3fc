import Primitives

/// The first part of the names of a backup's objects, as users ask for it.
enum BackupContainer {
    /// Where stores keep the repositories of projects.
    private static let repositories = "repositories"

    /// Refuses what no store can have, and where no backup in Cinder's format may lie. What is empty is as if it were left out.
    static func check(_ text: String?) throws(StorageError) {
        guard let text, !text.isEmpty else { return }
        guard ObjectPath.isContainer(text) else { throw .invalidInput("container: \(ObjectPath.containerRule).") }
        let first = text.utf8.prefix { $0 != UInt8(ascii: "/") }
        guard !first.elementsEqual(repositories.utf8) else {
            throw .invalidInput("container: it may not begin with '\(repositories)', where the repositories of projects are.")
        }
    }
}
