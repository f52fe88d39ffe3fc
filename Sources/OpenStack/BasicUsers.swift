import CCrypt
import Glibc
public import Logging
import Primitives
public import Settings

/// A user of the users file (`auth_strategy = http_basic`).
public struct BasicUser: Sendable, Equatable {
    public let name: String
    public let projectID: String
    public let roles: [String]
    let hash: String
}

/// Authenticates users with passwords from a file with lines of the form `name:bcrypt hash:project id:role,role`, as `htpasswd -B` writes the
/// first two fields. The file is read again when it changes.
public final class BasicUsers: Sendable {
    private let path: String
    private let users: Guarded<Users>
    /// bcrypt is slow on purpose, so a password that matched a hash is cached for a while. User, project and roles are not cached: they
    /// come from the file at every request.
    private let cache = VerdictCache<Void>(seconds: 300, capacity: 2000)
    private let queue = FairQueue(name: "password", threads: 2, capacity: 256, share: 64)
    /// Of each name from each address.
    private let history = ClientHistory()

    /// The contents of the file.
    struct Users: Sendable {
        var byName: [String: BasicUser] = [:]
        /// In the order of the file.
        var hashes: [String] = []

        /// The hash to check a name's password against. An unknown name gets another user's hash, always the same one, so that the time does
        /// not reveal which names exist.
        func hash(for name: String) -> String {
            if let user = byName[name] { return user.hash }
            guard !hashes.isEmpty else { return nobody }
            return hashes[Int(Digest(secret + name).number % UInt64(hashes.count))]
        }

        /// A random key, so that nobody can tell which hash is used for an unknown name.
        private let secret = UUID.random()
        /// A hash for a file without users.
        private let nobody = "$2b$12$C6UzMDM.H6dfI/f/IKcEeO7ZDdpGDA6CWcAm5AKuAKIi8IqdJ5LqW"
    }

    public init(_ settings: Settings, log: Logger) throws(SettingsError) {
        path = settings[Options.basicUsers.file]
        let watch = FileWatch(path)
        let first = try Self.read(path)
        users = Guarded(first)
        if first.hashes.isEmpty { log.warning("the file of users has none: nobody is let in", metadata: ["file": "\(path)"]) }
        watch.start("users") { [self] in
            do throws(SettingsError) {
                let fresh = try Self.read(path)
                users.withLock { $0 = fresh }
                log.info("users read again", metadata: ["file": "\(path)", "users": "\(fresh.hashes.count)"])
            } catch {
                for problem in error.problems { log.error("users not read again: \(problem)") }
            }
        }
    }

    /// The problems of the users file, one line each.
    public static func problems(_ settings: Settings) -> [String] {
        do throws(SettingsError) {
            _ = try read(settings[Options.basicUsers.file])
            return []
        } catch { return error.problems }
    }

    private static func read(_ path: String) throws(SettingsError) -> Users {
        guard !path.isEmpty else { throw SettingsError(["[DEFAULT] http_basic_auth_user_file is not set"]) }
        guard let file = fopen(path, "re") else {
            throw SettingsError([SystemError.last("cannot read the user file \(path)").description])
        }
        defer { fclose(file) }
        var info = stat()
        guard fstat(fileno(file), &info) == 0 else {
            throw SettingsError([SystemError.last("cannot read the user file \(path)").description])
        }
        let exposures = [FileTrust(info).writers(path), PathTrust.exposure(above: path), FileTrust(info).readers(path)].compactMap { $0 }
        guard exposures.isEmpty else { throw SettingsError(exposures) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65_536)
        while bytes.count <= 1 << 20, case let count = fread(&chunk, 1, chunk.count, file), count > 0 { bytes += chunk[..<count] }
        guard let text = String(validating: bytes, as: UTF8.self) else { throw SettingsError(["\(path): not UTF-8"]) }
        return try parse(text, name: path)
    }

    static func parse(_ text: String, name: String) throws(SettingsError) -> Users {
        var users = Users()
        var problems: [String] = []
        // By Unicode scalars: CR LF is a single Character in Swift, not equal to LF.
        let text = text.unicodeScalars.first == "\u{FEFF}" ? text.unicodeScalars.dropFirst() : text.unicodeScalars[...]
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let line = line.last == "\r" ? line.dropLast() : line
            guard !line.isEmpty, line.first != "#" else { continue }
            let fields = line.split(separator: ":", omittingEmptySubsequences: false).map { String($0) }
            guard fields.count == 4, !fields[0].isEmpty, !fields[2].isEmpty, fields[0].utf8.count <= 255, fields[2].utf8.count <= 255 else {
                problems.append("\(name):\(index + 1): a line must read name:bcrypt hash:project id:role,role")
                continue
            }
            guard isHash(fields[1]) else {
                problems.append(
                    "\(name):\(index + 1): the hash of \(fields[0]) is not bcrypt's (make it with 'htpasswd -nbB \(fields[0]) PASSWORD')")
                continue
            }
            if users.byName[fields[0]] != nil { problems.append("\(name):\(index + 1): \(fields[0]) is there twice") }
            let roles = fields[3].utf8.split(separator: UInt8(ascii: ",")).map { String(Substring($0)).filter { $0 != " " } }
            // As Keystone's implied roles.
            let implied = roles.contains("admin") ? ["member", "reader"] : roles.contains("member") ? ["reader"] : []
            users.byName[fields[0]] = BasicUser(
                name: fields[0], projectID: fields[2], roles: roles + implied.filter { !roles.contains($0) }, hash: fields[1])
            users.hashes.append(fields[1])
        }
        guard problems.isEmpty else { throw SettingsError(problems) }
        return users
    }

    /// `$2b$10$` and 53 digits.
    private static func isHash(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        guard bytes.count == 60, ["$2a$", "$2b$", "$2y$"].contains(where: { bytes.starts(with: $0.utf8) }), bytes[6] == UInt8(ascii: "$")
        else { return false }
        return bytes[4...5].allSatisfy { (48...57).contains($0) }
            && bytes[7...].allSatisfy { (46...57).contains($0) || (65...90).contains($0) || (97...122).contains($0) }
    }

    /// The user as the file has it now.
    public func user(_ name: String) -> BasicUser? { users.withLock { $0.byName[name] } }

    /// The user; nil if the password is wrong.
    ///
    /// - Throws: `Unavailable` if too many requests wait to be authenticated.
    public func authenticate(name: String, password: Secret, for asker: Asker) async throws(Unavailable) -> BasicUser? {
        let hash = users.withLock { $0.hash(for: name) }
        // The key contains the hash, so that a changed hash, and another user with the same password, need a new check.
        let key = Digest(name + "\0" + hash + "\0" + password.reveal())
        let outcome = await cache.find(key, isPresent: asker.isPresent) { [self] isWanted in
            await check(password, hash, of: users.withLock { $0.byName[name] } == nil ? nil : name, for: asker, while: isWanted)
        }
        guard case .valid = try outcome.get() else { return nil }
        // The file may have changed during the check; use its present contents.
        let user = users.withLock { $0.byName[name] }
        return user?.hash == hash ? user : nil
    }

    /// Whether the password fits the hash, found out when it is this login's turn. One of a name that is in the file goes before those of
    /// names that are not, however many addresses these come from; the names have their turns one after the other; and who logged in with
    /// the name from his address before goes first. `name` is nil for one that is not in the file.
    private func check(
        _ password: Secret, _ hash: String, of name: String?, for asker: Asker, while isWanted: @escaping @Sendable () -> Bool
    ) async -> VerdictCache<Void>.Outcome {
        let stranger = FairQueue.Client("address " + asker.share)
        let last: @Sendable () -> Int = { ClientHistory.lastRank }
        guard let name else {
            let fits = await queue.run(for: stranger, rank: last, while: isWanted) { Self.matches(password, hash) }
            // It is nobody's, even if it fits.
            return fits.map { .success($0 ? .valid(()) : .invalid) } ?? .failure(.busy)
        }
        let client = Digest(name + "\0" + asker.share)
        let fits = await queue.run(
            for: FairQueue.Client("name " + name, member: asker.share), rank: { [history] in history.rank(client) }, while: isWanted
        ) { Self.matches(password, hash) }
        guard let fits else { return .failure(.busy) }
        history.add(client, isGood: fits)
        guard !fits else { return .success(.valid(())) }
        // The refusal waits as long as that of an unknown name: a shorter time would tell which names there are.
        guard await queue.run(for: stranger, rank: last, while: isWanted, {}) != nil else { return .failure(.busy) }
        return .success(.invalid)
    }

    private static func matches(_ password: Secret, _ hash: String) -> Bool {
        // bcrypt uses 72 bytes and stops at NUL, so longer passwords would match others.
        let text = password.reveal()
        guard text.utf8.count <= 72, !text.utf8.contains(0) else { return false }
        let data = UnsafeMutablePointer<crypt_data>.allocate(capacity: 1)
        memset(data, 0, MemoryLayout<crypt_data>.size)
        defer { data.deallocate() }
        guard let result = crypt_rn(text, hash, data, Int32(MemoryLayout<crypt_data>.size)) else { return false }
        let found = Array(String(cString: result).utf8)
        let wanted = Array(hash.utf8)
        // $2a$, $2b$ and $2y$ are the same function here. The comparison takes the same time wherever the first difference is.
        guard found.count == wanted.count else { return false }
        var difference: UInt8 = 0
        for index in found.indices where index != 2 { difference |= found[index] ^ wanted[index] }
        return difference == 0
    }
}
