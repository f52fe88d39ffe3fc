import CDriver
import CNFS
import DriverKit
import Glibc

// Folders, and what lies under a name: for users of a share that know it as a tree.
extension Session {
    /// What lies under a name.
    package struct Found {
        package let isFile, isFolder: Bool
        package let size: UInt64
        /// When the content was changed, in seconds since 1970.
        package let modified: Int64
        /// The server's number of the file, which a file that takes its name does not have.
        package let number: UInt64

        init(_ info: nfs_stat_64) {
            // The file type bits.
            isFile = info.nfs_mode & 0o170000 == 0o100000
            isFolder = info.nfs_mode & 0o170000 == 0o040000
            size = info.nfs_size
            modified = Int64(clamping: info.nfs_mtime)
            number = info.nfs_ino
        }
    }

    /// nil if nothing lies there.
    package func look(_ name: String) throws -> Found? {
        var info = nfs_stat_64()
        var result = nfs_lstat64(context, "/" + name, &info)
        // A file that was removed or replaced between two requests of libnfs, or a folder above it.
        for attempt in 0..<50 where result == -ESTALE {
            if attempt > 5 { usleep(20_000) }
            result = nfs_lstat64(context, "/" + name, &info)
        }
        if [-ENOENT, -ENOTDIR].contains(result) { return nil }
        try check(result, "look at", name)
        return Found(info)
    }

    /// Opens a file for reading; nil if there is none, or it was removed meanwhile.
    package func openIfThere(_ name: String) throws -> NFSFile? {
        var file: OpaquePointer?
        let result = nfs_open(context, "/" + name, O_RDONLY, &file)
        if [-ENOENT, -ENOTDIR, -ESTALE].contains(result) { return nil }
        try check(result, "open", name)
        return file.map { NFSFile(self, $0, name) }
    }

    /// Makes a file that must not be there; nil if its folder is not, or the name is taken.
    package func createNew(_ name: String, mode: Int32) throws -> NFSFile? {
        var file: OpaquePointer?
        let result = nfs_create(context, "/" + name, O_RDWR | O_EXCL, mode, &file)
        if [-ENOENT, -ESTALE, -EEXIST].contains(result) { return nil }
        try check(result, "create", name)
        return file.map { NFSFile(self, $0, name) }
    }

    /// Makes a folder; succeeds if it is there.
    ///
    /// - Returns: false if something else is in the place of it or of one above, or one above was removed.
    package func makeFolder(_ name: String, mode: Int32) throws -> Bool {
        let result = nfs_mkdir2(context, "/" + name, mode)
        if [-ENOTDIR, -ENOENT, -ESTALE].contains(result) { return false }
        if result == -EEXIST { return try look(name)?.isFolder == true }
        try check(result, "make", name)
        return true
    }

    /// 0 or a negative error number.
    package func removing(_ name: String) -> Int32 { patiently { nfs_unlink(context, "/" + name) } }

    /// Removes a folder if it is empty; returns whether it did.
    package func removeFolder(_ name: String) -> Bool { nfs_rmdir(context, "/" + name) == 0 }

    /// 0 or a negative error number.
    package func renaming(_ old: String, to new: String) -> Int32 { nfs_rename(context, "/" + old, "/" + new) }

    /// Whether the server says that files may be made in the share's root.
    package var isWritable: Bool { nfs_access(context, "/", W_OK) != -EACCES }

    /// No list is answered from what an earlier one said.
    package func asksForEveryList() { nfs_set_dircache(context, 0) }
}
