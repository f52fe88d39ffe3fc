import CCrypt
import Glibc
public import Logging
import Primitives
public import Settings

/// A user of a file: for a service without an identity service.
public struct BasicUser: Sendable, Equatable {
    public let name: String
    public let projectID: String
    public let roles: [String]
    let hash: String
}

/// Users with passwords from a file whose lines read `name:bcrypt hash:project id:role,role`, as `htpasswd -B` makes the
/// first two fields. The file is read again when it changes.
public final class BasicUsers: Sendable {
    private let path: String
    private let users: Guarded<[String: BasicUser]>
    /// bcrypt is slow on purpose: a password that was right stays so for a while.
    private let cache = VerdictCache<BasicUser>(seconds: 300, capacity: 2000)
    private let executor = ThreadExecutor(name: "password", threads: 2)
    /// Somebody's hash, so that an unknown name costs as much as a wrong password.
    private static let nobody = "$2b$12$C6UzMDM.H6dfI/f/IKcEeO7ZDdpGDA6CWcAm5AKuAKIi8IqdJ5LqW"

    public init(_ settings: Settings, log: Logger) throws(SettingsError) {
        path = settings[Options.basicUserFile]
        let watch = FileWatch(path)
        users = Guarded(try Self.read(path))
        watch.start("users") { [self] in
            do throws(SettingsError) {
                let fresh = try Self.read(path)
                users.withLock { $0 = fresh }
                cache.removeAll()
                log.info("users read again", metadata: ["file": "\(path)", "users": "\(fresh.count)"])
            } catch {
                for problem in error.problems { log.error("users not read again: \(problem)") }
            }
        }
    }

    private static func read(_ path: String) throws(SettingsError) -> [String: BasicUser] {
        guard !path.isEmpty else { throw SettingsError(["[DEFAULT] http_basic_auth_user_file is not set"]) }
        guard let file = fopen(path, "re") else {
            let code = errno
            throw SettingsError([SystemError(code, "cannot read the user file \(path)").description])
        }
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65_536)
        while bytes.count <= 1 << 20, case let count = fread(&chunk, 1, chunk.count, file), count > 0 { bytes += chunk[..<count] }
        guard let text = String(validating: bytes, as: UTF8.self) else { throw SettingsError(["\(path): not UTF-8"]) }
        return try parse(text, name: path)
    }

    static func parse(_ text: String, name: String) throws(SettingsError) -> [String: BasicUser] {
        var users: [String: BasicUser] = [:]
        var problems: [String] = []
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let line = line.hasSuffix("\r") ? line.dropLast() : line
            guard !line.isEmpty, line.first != "#" else { continue }
            let fields = line.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
            guard fields.count == 4, !fields[0].isEmpty, !fields[2].isEmpty, fields[0].utf8.count <= 255, fields[2].utf8.count <= 255 else {
                problems.append("\(name):\(index + 1): a line must read name:bcrypt hash:project id:role,role")
                continue
            }
            guard ["$2a$", "$2b$", "$2y$"].contains(where: fields[1].hasPrefix), fields[1].utf8.count == 60 else {
                problems.append(
                    "\(name):\(index + 1): the hash of \(fields[0]) is not bcrypt's (make it with 'htpasswd -nbB \(fields[0]) PASSWORD')")
                continue
            }
            if users[fields[0]] != nil { problems.append("\(name):\(index + 1): \(fields[0]) is there twice") }
            let roles = fields[3].split(separator: ",").map(String.init)
            // What Keystone's implied roles do.
            let implied = roles.contains("admin") ? ["member", "reader"] : roles.contains("member") ? ["reader"] : []
            users[fields[0]] = BasicUser(
                name: fields[0], projectID: fields[2], roles: roles + implied.filter { !roles.contains($0) }, hash: fields[1])
        }
        guard problems.isEmpty else { throw SettingsError(problems) }
        return users
    }

    /// The user, if the password is right.
    public func authenticate(name: String, password: Secret) async -> BasicUser? {
        let user = users.withLock { $0[name] }
        let hash = user?.hash ?? Self.nobody
        // Another user's password of the same text is another key; a changed hash is one too.
        let key = Digest(name + "\0" + hash + "\0" + password.reveal())
        let outcome = await cache.find(key) { [executor] in
            await Task(executorPreference: executor) {
                let isRight = Self.matches(password, hash)
                return .success(isRight ? user.map { .valid($0) } ?? .invalid : .invalid)
            }.value
        }
        guard case .success(.valid(let found)) = outcome else { return nil }
        return found
    }

    private static func matches(_ password: Secret, _ hash: String) -> Bool {
        // bcrypt sees 72 bytes and stops at a NUL: such passwords would match others.
        let text = password.reveal()
        guard text.utf8.count <= 72, !text.utf8.contains(0) else { return false }
        let data = UnsafeMutablePointer<crypt_data>.allocate(capacity: 1)
        memset(data, 0, MemoryLayout<crypt_data>.size)
        defer { data.deallocate() }
        guard let result = crypt_rn(text, hash, data, Int32(MemoryLayout<crypt_data>.size)) else { return false }
        let found = Array(String(cString: result).utf8)
        let wanted = Array(hash.utf8)
        // $2a$, $2b$ and $2y$ name the same function here; every byte is compared, whatever the first ones say.
        guard found.count == wanted.count else { return false }
        var difference: UInt8 = 0
        for index in found.indices where index != 2 { difference |= found[index] ^ wanted[index] }
        return difference == 0
    }
}
