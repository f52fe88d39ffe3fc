import CDriver
import DriverKit
import NFSClient

/// A walk over the files of a share in the order of their names' bytes. It holds the entries of one folder of each depth at a time, and a
/// connection only while it reads a folder: whoever is told of an object may call the store.
struct Listing {
    private let connections: Connections
    private let prefix, after: [UInt8]

    init(_ connections: Connections, prefix: String, after: String) {
        self.connections = connections
        self.prefix = Array(prefix.utf8)
        self.after = Array(after.utf8)
    }

    /// A file or a folder.
    private struct Entry {
        /// From the root on. Of a folder it ends with a slash, so that names are in the order of what lies in the folders.
        let place: [UInt8]
        let found: Session.Entry
    }

    func walk(isCancelled: () -> Bool, _ each: (StoredObject) -> Bool) throws { _ = try walk([], isCancelled, each) }

    /// False if `each` wants no more.
    private func walk(_ folder: [UInt8], _ isCancelled: () -> Bool, _ each: (StoredObject) -> Bool) throws -> Bool {
        if isCancelled() { throw DriverError(CLINKER_CANCELLED, "cancelled") }
        for entry in try entries(of: folder) {
            if entry.found.isFolder {
                guard try walk(entry.place, isCancelled, each) else { return false }
            } else {
                let name = String(decoding: entry.place, as: UTF8.self)
                guard each(StoredObject(name: name, size: entry.found.size, modified: entry.found.modified)) else { return false }
            }
        }
        return true
    }

    /// What of a folder is to be listed, in order; nothing if it was removed meanwhile. What others keep here, and what has no object's
    /// name, is left out: names have an end, and so does the depth of the walk.
    private func entries(of folder: [UInt8]) throws -> [Entry] {
        let found = try connections.with { try $0.entries(of: String(decoding: folder.dropLast(), as: UTF8.self)) }
        var entries: [Entry] = []
        for entry in found ?? [] where (entry.isFile || entry.isFolder) && entry.isNameText {
            let place = folder + Array(entry.name.utf8) + (entry.isFolder ? [UInt8(ascii: "/")] : [])
            guard mayHold(place, isFolder: entry.isFolder), ObjectName.mayBegin(with: place) else { continue }
            entries.append(Entry(place: place, found: entry))
        }
        return entries.sorted { $0.place.lexicographicallyPrecedes($1.place) }
    }

    /// Whether a file is to be listed, or a folder may hold one that is.
    private func mayHold(_ place: [UInt8], isFolder: Bool) -> Bool {
        if isFolder {
            guard zip(place, prefix).allSatisfy({ $0 == $1 }) else { return false }
            return after.starts(with: place) || after.lexicographicallyPrecedes(place)
        }
        return place.starts(with: prefix) && after.lexicographicallyPrecedes(place)
    }
}
