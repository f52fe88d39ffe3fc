import JSON
import Primitives

/// An object below `keys/`: the repository's keys, sealed with keys that scrypt derives from a password.
struct KeyFile {
    var created: String
    var username: String
    var hostname: String
    var scrypt: Scrypt
    var salt: [UInt8]
    var data: [UInt8]

    /// Seals the repository's keys with a password.
    static func make(_ keys: SealingKeys, password: Secret, hostname: String, scrypt: Scrypt = .standard) throws -> KeyFile {
        let salt = randomBytes(64)
        guard let user = userKeys(password, scrypt, salt) else { throw RepositoryError(.invalid, "the password cannot be used") }
        let master: JSON = [
            "mac": ["k": .string(Base64.encode(keys.macKey)), "r": .string(Base64.encode(keys.macR))],
            "encrypt": .string(Base64.encode(keys.encryption)),
        ]
        let data = Array(master.text.utf8).withUnsafeBytes { Sealer(user).seal($0) }
        return KeyFile(created: Timestamp.now() + "Z", username: "clinker", hostname: hostname, scrypt: scrypt, salt: salt, data: data)
    }

    private static func userKeys(_ password: Secret, _ scrypt: Scrypt, _ salt: [UInt8]) -> SealingKeys? {
        guard let derived = scrypt.derive(password.reveal(), salt: salt, count: 64) else { return nil }
        return SealingKeys(encryption: Array(derived[..<32]), macKey: Array(derived[32..<48]), macR: Array(derived[48...]))
    }

    /// The repository's keys; nil if this is not the password.
    func open(_ password: Secret) throws -> SealingKeys? {
        guard let user = Self.userKeys(password, scrypt, salt), let text = Sealer(user).open(data) else { return nil }
        guard let json = try? JSON(parsing: text), let encryption = json["encrypt"]?.string.flatMap(Base64.decode),
            let macKey = json["mac"]?["k"]?.string.flatMap(Base64.decode), let macR = json["mac"]?["r"]?.string.flatMap(Base64.decode),
            let keys = SealingKeys(encryption: encryption, macKey: macKey, macR: macR)
        else { throw RepositoryError.damaged("a key opens with the password but holds no keys") }
        return keys
    }

    var json: JSON {
        [
            "created": .string(created), "username": .string(username), "hostname": .string(hostname), "kdf": "scrypt",
            "N": JSON(scrypt.cost), "r": JSON(scrypt.blockSize), "p": JSON(scrypt.parallelism), "salt": .string(Base64.encode(salt)),
            "data": .string(Base64.encode(data)),
        ]
    }

    init(created: String, username: String, hostname: String, scrypt: Scrypt, salt: [UInt8], data: [UInt8]) {
        self.created = created
        self.username = username
        self.hostname = hostname
        self.scrypt = scrypt
        self.salt = salt
        self.data = data
    }

    /// - Parameter name: for messages.
    init(parsing text: [UInt8], name: String) throws {
        let json: JSON
        do { json = try JSON(parsing: text) } catch { throw RepositoryError.damaged("\(name) is not JSON: \(error)") }
        guard let kdf = json["kdf"]?.string else { throw RepositoryError.damaged("\(name) names no key derivation") }
        guard kdf == "scrypt" else {
            throw RepositoryError(.unsupported, "\(name) uses the unknown key derivation \(kdf.shortened(to: 40))")
        }
        guard let cost = json["N"]?.integer, let blockSize = json["r"]?.integer, let parallelism = json["p"]?.integer,
            let salt = json["salt"]?.string.flatMap(Base64.decode), let data = json["data"]?.string.flatMap(Base64.decode)
        else { throw RepositoryError.damaged("\(name) lacks a member of a key file") }
        let scrypt = Scrypt(cost: Int(clamping: cost), blockSize: Int(clamping: blockSize), parallelism: Int(clamping: parallelism))
        if let fault = scrypt.fault { throw RepositoryError.damaged("\(name): \(fault)") }
        self.init(
            created: json["created"]?.string ?? "", username: json["username"]?.string ?? "", hostname: json["hostname"]?.string ?? "",
            scrypt: scrypt, salt: salt, data: data)
    }
}
