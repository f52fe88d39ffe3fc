import CDriver
import DriverKit
import Glibc
import ObjectServers

/// Notes on this machine's disk of the objects that are sent in parts: of a process that dies, the parts lie in the bucket, are in no
/// listing of objects, and cost money. Others' uploads to the same bucket are nobody's business here.
struct UploadNotes: Sendable {
    private let directory: String

    /// Nil where there is no such directory and none can be made.
    init?(in stateDirectory: String?) {
        guard let stateDirectory else { return nil }
        directory = stateDirectory + "/uploads"
        guard mkdir(directory, 0o700) == 0 || errno == EEXIST else { return nil }
    }

    func add(_ name: String) throws -> UploadNote {
        let path = "\(directory)/\(getpid())-\(String(UInt64.random(in: 0...UInt64.max), radix: 16))"
        let file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw DriverError.last("cannot note the upload of \(name)") }
        defer { close(file) }
        let bytes = Array(name.utf8)
        // A disk that takes a part of it has no room for the rest.
        errno = ENOSPC
        guard write(file, bytes, bytes.count) == bytes.count else {
            let error = DriverError.last("cannot note the upload of \(name)")
            unlink(path)
            throw error
        }
        return UploadNote(path: path)
    }

    /// Ends uploads of this machine that were begun a day ago: who still writes, be it slowly, is not disturbed.
    func removeOld(_ client: S3Client, _ requester: Requester, olderThan age: Int64 = 86_400) {
        guard let listing = opendir(directory) else { return }
        defer { closedir(listing) }
        while let entry = readdir(listing) {
            let word = withUnsafePointer(to: &entry.pointee.d_name) {
                String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
            }
            let path = directory + "/" + word
            var info = stat()
            guard lstat(path, &info) == 0, info.st_mode & S_IFMT == S_IFREG, Int64(info.st_mtim.tv_sec) < ServerTime.now() - age,
                let name = Self.read(path), ObjectName.problem(with: name) == nil
            else { continue }
            do {
                try client.endUploads(of: name, before: client.now - age, requester)
                unlink(path)
            } catch { requester.log("parts of \(name) that a dead writer left are not removed: \((error as? DriverError)?.message ?? "")") }
        }
    }

    private static func read(_ path: String) -> String? {
        let file = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: 2048)
        let count = Glibc.read(file, &bytes, bytes.count)
        return count > 0 ? String(validating: bytes[..<count], as: UTF8.self) : nil
    }
}

/// That an upload was begun.
struct UploadNote {
    fileprivate let path: String
    /// Nothing is left of the upload. What is not removed whoever opens the store a day later looks at.
    func remove() { unlink(path) }
}

extension S3Client {
    /// Ends the unfinished uploads of one object that are so old.
    fileprivate func endUploads(of name: String, before: Int64, _ requester: Requester) throws {
        let response = try expect(Request("GET", query: [("uploads", ""), ("prefix", name), ("max-uploads", "1000")]), for: requester)
        guard let root = XMLElement(parsing: response.body), root.name == "ListMultipartUploadsResult" else {
            throw DriverError(CLINKER_RETRY, "the listing of uploads cannot be read")
        }
        for upload in root.all("Upload") where upload["Key"] == name {
            guard let id = upload["UploadId"], let begun = upload["Initiated"].flatMap({ ServerTime.parse(iso: $0) }), begun < before else {
                continue
            }
            do { _ = try send(Request("DELETE", name, query: [("uploadId", id)]), for: requester) } catch let failure as S3Failure {
                guard failure.status == 404 else { throw failure.trouble.error }
            }
        }
    }
}
