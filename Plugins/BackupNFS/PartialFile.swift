import CDriver
import DriverKit
import Glibc
import NFSClient
import Synchronization

/// An object that is being written: a file of a hidden folder, which gets its name when it is whole and on the server's disk. It has a
/// connection of its own as long as it is open.
final class PartialFile: BackupObjectWriter {
    private let connections: Connections
    private let session: Session
    private let name: String
    private let file: NFSFile
    /// The server's number of the file.
    private let number: UInt64
    /// Over which connection everything was written.
    private let connection: UInt64
    private var offset: UInt64 = 0
    /// What was given in pieces that are not worth a request.
    private var gathered: [UInt8] = []
    private var isOpen = true
    private static let worthARequest = 1 << 20

    init(_ connections: Connections, _ leftovers: Leftovers, _ name: String) throws {
        self.connections = connections
        self.name = name
        session = try connections.take()
        let identity: (number: UInt64, modified: Int64)
        do { (file, identity) = try Self.make(session, name) } catch {
            connections.give(back: session)
            throw error
        }
        number = identity.number
        connection = session.connection
        leftovers.removeOnce(session, now: identity.modified)
    }

    deinit { abandon() }

    /// Of the share's root. No object has such a name.
    fileprivate static let folder = ".clinker-partial"

    /// An empty file. Nothing of one is left open on a failure: its connection is somebody else's then.
    private static func make(_ session: Session, _ name: String) throws -> (NFSFile, (number: UInt64, modified: Int64)) {
        for _ in 0..<100 {
            let unique = "\(folder)/\(getpid())-\(String(UInt64.random(in: 0...UInt64.max), radix: 16))"
            if let file = try session.createNew(unique, mode: 0o600) {
                do { return (file, try file.identity) } catch {
                    file.close()
                    if session.isUsable { try? session.remove(unique) }
                    throw error
                }
            }
            _ = try session.makeFolder(folder, mode: 0o700)
        }
        throw DriverError(CLINKER_RETRY, "cannot write \(name): \(session.path(folder)) is removed as often as it is made")
    }

    func write(_ bytes: UnsafeRawBufferPointer) throws { try write(bytes) { false } }

    func write(_ bytes: UnsafeRawBufferPointer, isCancelled: () -> Bool) throws {
        guard gathered.count + bytes.count >= Self.worthARequest else { return gathered.append(contentsOf: bytes) }
        try sendGathered()
        var rest = bytes
        while !rest.isEmpty {
            if isCancelled() { throw DriverError(CLINKER_CANCELLED, "cancelled") }
            let piece = UnsafeRawBufferPointer(rebasing: rest.prefix(NFSFile.most))
            try file.write(piece, at: offset)
            offset += UInt64(piece.count)
            rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(piece.count))
        }
    }

    private func sendGathered() throws {
        guard !gathered.isEmpty else { return }
        try gathered.withUnsafeBytes { try file.write($0, at: offset) }
        offset += UInt64(gathered.count)
        gathered.removeAll(keepingCapacity: true)
    }

    func commit() throws {
        defer { abandon() }
        try sendGathered()
        try file.flush()
        // A server flushes what it has. One that was started anew has only what was written to it since, and libnfs compares no verifiers.
        guard session.connection == connection else {
            throw DriverError(CLINKER_RETRY, "\(session.path(name)): the connection broke before everything was flushed")
        }
        try giveName()
        isOpen = false
        file.close()
        connections.give(back: session)
    }

    /// The server has the change on stable storage when it answers.
    private func giveName() throws {
        let root = ShareFolder(session)
        for _ in 0..<100 {
            let result = session.renaming(file.name, to: name)
            switch -result {
            case 0: return
            case ENOENT, ESTALE:
                if try session.look(file.name) == nil {
                    // Renamed already, if an answer was lost and libnfs asked again over another connection.
                    if try session.look(name)?.number == number { return }
                    throw DriverError(CLINKER_RETRY, "\(session.path(name)): somebody removed what was written")
                }
                try root.makeFolders(of: name)
            case EISDIR, ENOTEMPTY, EEXIST:
                // An empty folder that a remover left when it died.
                guard session.removeFolder(name) else {
                    throw DriverError(CLINKER_EXISTS, "\(name): there are objects whose names begin with \(name)/")
                }
            case ENOTDIR: throw DriverError(CLINKER_EXISTS, "\(name): an object has the name of a folder")
            default: try session.check(result, "rename", name)
            }
        }
        throw DriverError(CLINKER_RETRY, "the folder of \(name) is removed as often as it is made")
    }

    func abandon() {
        guard isOpen else { return }
        isOpen = false
        // Over a connection that is broken nothing is tried: what is left is removed a day later.
        if session.isUsable { try? session.remove(file.name) }
        file.close()
        connections.give(back: session)
    }
}

/// What writers that died left, on the share.
final class Leftovers: Sendable {
    private let isDone = Mutex(false)
    /// Seconds: a writer on another machine may live, and be slow.
    private static let patience: Int64 = 86_400

    /// Removes what nobody has written to for a day, the first time it is called; what it cannot remove stays.
    ///
    /// - Parameter now: by the server's clock, which also says when a file was written to.
    func removeOnce(_ session: Session, now: Int64) {
        guard
            isDone.withLock({ done in
                done
                    ? false
                    : {
                        done = true; return true
                    }()
            })
        else { return }
        for entry in (try? session.entries(of: PartialFile.folder)) ?? [] where entry.isFile && entry.modified < now - Self.patience {
            try? session.remove(PartialFile.folder + "/" + entry.name)
        }
    }
}
