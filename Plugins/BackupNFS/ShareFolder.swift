import CDriver
import DriverKit
import Glibc
import NFSClient

/// The objects of a share, over one connection.
struct ShareFolder {
    private let session: Session

    init(_ session: Session) { self.session = session }

    /// - Throws: NOT_FOUND if there is no such object. A link, or what else is no plain file, is none.
    func found(_ name: String) throws -> Session.Found {
        guard let found = try session.look(name), found.isFile else { throw DriverError(CLINKER_NOT_FOUND, "there is no object \(name)") }
        return found
    }

    /// Removes an object; returns whether it was there. The server has the change on stable storage when it answers.
    func remove(_ name: String) throws -> Bool {
        for _ in 0..<50 {
            guard try session.look(name)?.isFile == true else { return false }
            let result = session.removing(name)
            // The folder was removed meanwhile by somebody who emptied it, and maybe made again.
            if result == -ESTALE { continue }
            if result != -ENOENT { try session.check(result, "remove", name) }
            return true
        }
        throw DriverError(CLINKER_RETRY, "\(session.path(name)): its folder is replaced as often as it is looked for")
    }

    /// Removes a folder and those above it as far as they are empty.
    func removeIfEmpty(_ folder: String) {
        var rest = folder[...]
        while session.removeFolder(String(rest)), let slash = rest.lastIndex(of: "/") { rest = rest[..<slash] }
    }

    /// Makes the folders of an object.
    func makeFolders(of name: String) throws {
        var folder = ""
        for word in name.split(separator: "/").dropLast() {
            folder += (folder.isEmpty ? "" : "/") + word
            guard try !session.makeFolder(folder, mode: 0o700) else { continue }
            // Something else is there; or one above was removed meanwhile, since it was empty, and the caller begins again.
            if let found = try session.look(folder), !found.isFolder {
                throw DriverError(CLINKER_EXISTS, "\(name): \(folder) is no folder")
            }
            return
        }
    }
}
