import CDriver
import DriverKit
import Glibc

/// Records the cluster clients of this machine in a directory, so that the next process can blocklist dead ones: the cluster considers a
/// killed client alive for half a minute, during which its images stay locked.
package final class RegisteredClient {
    private let path: String
    private let descriptor: Int32

    /// `former`: the directory of earlier releases, shared by all backends; dead clients recorded there are blocklisted too.
    package init(directory: String, former: String? = nil, cluster: Cluster, _ call: Call) throws {
        if mkdir(directory, 0o700) != 0, errno != EEXIST {
            throw DriverError.last(CLINKER_BAD_CONFIGURATION, "cannot create the directory \(directory)")
        }
        let addresses = try cluster.addresses
        // The file is locked before it gets the name by which other processes find it.
        let hidden = directory + "/.\(getpid())-\(UInt64.random(in: 0...UInt64.max))"
        path = directory + "/\(try cluster.fsid)-\(getpid())-\(UInt64.random(in: 0...UInt64.max))"
        descriptor = open(hidden, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw DriverError.last(CLINKER_ERROR, "cannot write to \(directory)")
        }
        flock(descriptor, LOCK_EX)
        let written = addresses.withCString { write(descriptor, $0, strlen($0)) }
        guard written > 0, rename(hidden, path) == 0 else {
            let failure = DriverError.last(CLINKER_ERROR, "cannot write to \(directory)")
            // deinit closes the descriptor.
            unlink(hidden)
            throw failure
        }
        for place in [directory, former].compactMap({ $0 }) where access(place, F_OK) == 0 {
            try? Self.fenceTheDead(directory: place, cluster: cluster, call)
        }
    }

    deinit {
        unlink(path)
        close(descriptor)
    }

    private static func fenceTheDead(directory: String, cluster: Cluster, _ call: Call) throws {
        // Serialized: a second process must not continue before the first has blocklisted the dead clients.
        let turn = open(directory + "/.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        if turn >= 0 { flock(turn, LOCK_EX) }
        defer { if turn >= 0 { close(turn) } }
        guard let listing = opendir(directory) else { return }
        defer { closedir(listing) }
        let fsid = try cluster.fsid
        while let entry = readdir(listing) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
            }
            guard name.hasPrefix(fsid) else { continue }
            let path = directory + "/" + name
            let file = open(path, O_RDONLY | O_CLOEXEC)
            guard file >= 0 else { continue }
            defer { close(file) }
            // The kernel releases the lock when the process ends.
            guard flock(file, LOCK_EX | LOCK_NB) == 0 else { continue }
            var bytes = [UInt8](repeating: 0, count: 4096)
            let count = read(file, &bytes, bytes.count)
            let addresses = String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
            // The file is gone if its owner has ended normally in the meantime.
            guard access(path, F_OK) == 0, !addresses.isEmpty else { continue }
            call.log(CLINKER_WARNING, "a process ended without leaving the cluster: its client \(addresses) is fenced")
            try cluster.fence(addresses)
            unlink(path)
        }
        try cluster.seeFences()
    }
}
