import CDriver
import DriverKit
import Glibc

/// A walk over the files of a store in the order of their names' bytes. It holds the names of one folder of each depth at a time.
struct Listing {
    private let prefix, after: [UInt8]

    init(prefix: String, after: String) {
        self.prefix = Array(prefix.utf8)
        self.after = Array(after.utf8)
    }

    /// A file or a folder. The name of a folder ends with a slash, so that names are in the order of what lies in the folders.
    private struct Entry {
        /// The name of the object, or of the folder, from the root on.
        let place: [UInt8]
        let word: String
        let isFolder: Bool
    }

    func walk(_ root: Root, isCancelled: () -> Bool, _ each: (StoredObject) -> Bool) throws {
        try root.checkPresence()
        let folder = openat(root.descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard folder >= 0 else { throw failure("cannot list \(root.path)") }
        _ = try walk(folder, [], isCancelled, each)
    }

    /// Walks a folder, which it closes; false if `each` wants no more.
    private func walk(_ folder: Int32, _ place: [UInt8], _ isCancelled: () -> Bool, _ each: (StoredObject) -> Bool) throws -> Bool {
        guard let listing = fdopendir(folder) else {
            let error = failure("cannot list \(String(decoding: place, as: UTF8.self))")
            close(folder)
            throw error
        }
        defer { closedir(listing) }
        if isCancelled() { throw DriverError(CLINKER_CANCELLED, "cancelled") }
        for entry in try entries(listing, folder, place) {
            if entry.isFolder {
                let next = openat(folder, entry.word, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                guard next >= 0 else {
                    if [ENOENT, ENOTDIR, ELOOP].contains(errno) { continue }
                    throw failure("cannot list \(String(decoding: entry.place, as: UTF8.self))")
                }
                guard try walk(next, entry.place, isCancelled, each) else { return false }
            } else {
                let name = String(decoding: entry.place, as: UTF8.self)
                // Removed meanwhile.
                guard let found = try Root.look(folder, entry.word, as: name) else { continue }
                guard each(found) else { return false }
            }
        }
        return true
    }

    /// What of a folder is to be listed, in order.
    private func entries(_ listing: OpaquePointer, _ folder: Int32, _ place: [UInt8]) throws -> [Entry] {
        var found: [Entry] = []
        while true {
            errno = 0
            guard let entry = readdir(listing) else {
                guard errno == 0 else { throw failure("cannot list \(String(decoding: place, as: UTF8.self))") }
                break
            }
            let text = withUnsafePointer(to: &entry.pointee.d_name) {
                String(validatingCString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
            }
            guard let word = text else { continue }
            let bytes = Array(word.utf8)
            var isFolder = Int32(entry.pointee.d_type) == Int32(DT_DIR)
            guard mayHold(place + bytes, isFolder: isFolder || Int32(entry.pointee.d_type) == Int32(DT_UNKNOWN)) else { continue }
            if Int32(entry.pointee.d_type) == Int32(DT_UNKNOWN) {
                var info = stat()
                guard fstatat(folder, word, &info, AT_SYMLINK_NOFOLLOW) == 0 else { continue }
                isFolder = info.st_mode & S_IFMT == S_IFDIR
            }
            let whole = place + bytes + (isFolder ? [UInt8(ascii: "/")] : [])
            // What others keep here, and what has no object's name: names have an end, and so does the depth of the walk.
            guard mayHold(whole, isFolder: isFolder), ObjectName.mayBegin(with: whole) else { continue }
            found.append(Entry(place: whole, word: word, isFolder: isFolder))
        }
        return found.sorted { $0.place.lexicographicallyPrecedes($1.place) }
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
