import Glibc
import Primitives

/// The passwords of the projects' repositories, each in a file of mode 0600.
struct RepositoryPasswords {
    let directory: String

    /// The projects of which there is a password.
    func projects() throws -> [String] {
        guard let listing = opendir(directory) else {
            if errno == ENOENT { return [] }
            throw SystemError.last("cannot list \(directory)")
        }
        defer { closedir(listing) }
        var names: [String] = []
        while let entry = readdir(listing) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
            }
            // Drafts have a dot in their names.
            if RepositoryEngine.isProject(name) { names.append(name) }
        }
        return names.sorted()
    }

    /// nil: there is none, and none is made.
    func read(_ project: String, makes: Bool) throws -> Secret? {
        let path = directory + "/" + project
        if let known = try text(path) { return known }
        guard makes else { return nil }
        guard mkdir(directory, 0o700) == 0 || errno == EEXIST else { throw SystemError.last("cannot make \(directory)") }
        var generator = SystemRandomNumberGenerator()
        let word = (0..<8).map { _ in
            let digits = String(UInt32.random(in: .min ... .max, using: &generator), radix: 16)
            return String(repeating: "0", count: 8 - digits.utf8.count) + digits
        }.joined()
        // Under its name when it is whole; who comes first has made it.
        let draft = path + ".\(getpid())"
        let file = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw SystemError.last("cannot make \(draft)") }
        defer { unlink(draft) }
        let bytes = Array(word.utf8)
        let isWritten = write(file, bytes, bytes.count) == bytes.count && fsync(file) == 0
        close(file)
        guard isWritten else { throw SystemError.last("cannot write \(draft)") }
        guard link(draft, path) == 0 || errno == EEXIST else { throw SystemError.last("cannot name \(path)") }
        return try text(path)
    }

    private func text(_ path: String) throws -> Secret? {
        let file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard file >= 0 else {
            if errno == ENOENT { return nil }
            throw SystemError.last("cannot open \(path)")
        }
        defer { close(file) }
        var buffer = [UInt8](repeating: 0, count: 1024)
        let count = read(file, &buffer, buffer.count)
        guard count > 0 else { throw SystemError.last("cannot read \(path)") }
        return Secret(String(decoding: buffer[..<count], as: UTF8.self).filter { !$0.isWhitespace })
    }

    private func read(_ file: Int32, _ buffer: inout [UInt8], _ count: Int) -> Int { Glibc.read(file, &buffer, count) }
}
