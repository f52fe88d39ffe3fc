import Glibc
import JSON
import Primitives

/// Keys in files of a directory of the service's own, one file each, sealed by an outer key in a file of its own: whoever gets hold of the
/// one without the other has no key.
public final class FileKeyStore: KeyManager {
    private static let outerName = "outer.key"
    private static let suffix = ".key"
    private static let version = 1

    private let directory: String
    /// One: two that make the first key at once would each make an outer one.
    private let threads = ThreadExecutor(name: "keys", threads: 1)
    private let outer = Guarded<Sealing?>(nil)

    /// - Parameter directory: made with mode 0700 when the first key is.
    public init(_ directory: String) { self.directory = directory }

    // MARK: KeyManager

    public func create(_ request: KeyRequest) async throws(KeyFailure) -> String {
        try await onThread { () throws(KeyFailure) in
            try self.store(request) { () throws(KeyFailure) in try Sealing.random(request.bits / 8) }
        }
    }

    public func keep(_ key: EncryptionKey, as request: KeyRequest) async throws(KeyFailure) -> String {
        try await onThread { () throws(KeyFailure) in try self.store(request) { key.reveal() } }
    }

    public func key(_ id: String) async throws(KeyFailure) -> EncryptionKey {
        try await onThread { () throws(KeyFailure) in try self.read(id) }
    }

    public func delete(_ id: String) async throws(KeyFailure) {
        try await onThread { () throws(KeyFailure) in
            guard Self.isID(id) else { throw KeyFailure.notFound(id) }
            guard access(self.directory, F_OK) == 0 else { return }
            try SmallFile.remove(id + Self.suffix, in: self.directory)
        }
    }

    public func discard(_ name: String) async throws(KeyFailure) { try await delete(Self.id(of: name)) }

    /// What lies in the directory and is no key that can be read, one sentence each.
    public func problems() async throws(KeyFailure) -> [String] {
        try await onThread { () throws(KeyFailure) in
            var problems: [String] = []
            for name in try SmallFile.names(in: self.directory) where name != Self.outerName {
                let id = String(name.dropLast(Self.suffix.utf8.count))
                guard name.hasSuffix(Self.suffix), Self.isID(id) else {
                    problems.append("\(self.directory)/\(name) is no key of Clinker's")
                    continue
                }
                do throws(KeyFailure) { _ = try self.read(id) } catch { problems.append(error.description) }
            }
            return problems
        }
    }

    // MARK: files

    private func onThread<T: Sendable>(_ body: @escaping @Sendable () throws(KeyFailure) -> T) async throws(KeyFailure) -> T {
        let result = await Task(executorPreference: threads) { () -> Result<T, KeyFailure> in
            do throws(KeyFailure) { return .success(try body()) } catch { return .failure(error) }
        }.value
        return try result.get()
    }

    /// A key's id follows from its name: nothing else must be kept to find it again.
    private static func id(of name: String) -> String {
        let digits = Array(Hexadecimal.text(Sealing.digest(name).prefix(16)).utf8)
        return [digits[0..<8], digits[8..<12], digits[12..<16], digits[16..<20], digits[20..<32]]
            .map { String(decoding: $0, as: UTF8.self) }.joined(separator: "-")
    }

    private static func isID(_ text: String) -> Bool { text.utf8.count == 36 && UUID.isUUIDLike(text) && text == text.lowercased() }

    private static func words(_ id: String, _ algorithm: String) -> String { "clinker key \(version) \(id) \(algorithm)" }

    private func store(_ request: KeyRequest, _ make: () throws(KeyFailure) -> [UInt8]) throws(KeyFailure) -> String {
        let id = Self.id(of: request.name)
        let sealing = try outerKey(makes: true)
        if try SmallFile.read(path(id)) != nil {
            _ = try read(id)
            return id
        }
        let sealed = try sealing.seal(try make(), about: Self.words(id, request.algorithm))
        let text = JSON.object([
            "version": .integer(Int64(Self.version)), "algorithm": .string(request.algorithm), "sealed": .string(Base64.encode(sealed)),
        ]).text
        _ = try SmallFile.create(id + Self.suffix, in: directory, Array(text.utf8))
        return id
    }

    private func path(_ id: String) -> String { "\(directory)/\(id)\(Self.suffix)" }

    private func read(_ id: String) throws(KeyFailure) -> EncryptionKey {
        guard Self.isID(id), let bytes = try SmallFile.read(path(id)) else { throw KeyFailure.notFound(id) }
        let sealing = try outerKey(makes: false)
        guard let json = try? JSON(parsing: bytes), let version = json["version"]?.integer, let algorithm = json["algorithm"]?.string,
            let sealed = json["sealed"]?.string.flatMap({ Base64.decode($0) })
        else { throw KeyFailure(.damaged, "\(path(id)) is damaged: it is no key of Clinker's") }
        guard version == Int64(Self.version) else {
            throw KeyFailure(.damaged, "\(path(id)) has version \(version): a newer release wrote it")
        }
        guard let key = sealing.open(sealed, about: Self.words(id, algorithm)).flatMap({ EncryptionKey($0) }) else {
            throw KeyFailure(.damaged, "\(path(id)) is damaged, or \(directory)/\(Self.outerName) is not what it was sealed by")
        }
        return key
    }

    // MARK: the outer key

    private func outerKey(makes: Bool) throws(KeyFailure) -> Sealing {
        if let known = outer.withLock({ $0 }) { return known }
        let sealing = try readOuterKey(makes: makes)
        outer.withLock { $0 = sealing }
        return sealing
    }

    private func readOuterKey(makes: Bool) throws(KeyFailure) -> Sealing {
        let path = "\(directory)/\(Self.outerName)"
        if try SmallFile.read(path) == nil {
            guard try !SmallFile.names(in: directory).contains(where: { $0.hasSuffix(Self.suffix) }) else {
                throw KeyFailure(.damaged, "\(path) is missing: without it no key in \(directory) can be read. Bring it back from a backup")
            }
            guard makes else { throw KeyFailure(.damaged, "\(path) is missing") }
            guard mkdir(directory, 0o700) == 0 || errno == EEXIST else {
                throw KeyFailure(.unavailable, "\(SystemError.last("cannot make \(directory)"))")
            }
            // A name that is only in memory would be gone after a power cut, and every key with it.
            try SmallFile.sync(directory + "/..")
            let text = Hexadecimal.text(try Sealing.random(Sealing.keySize)) + "\n"
            _ = try SmallFile.create(Self.outerName, in: directory, Array(text.utf8))
        }
        guard let bytes = try SmallFile.read(path) else { throw KeyFailure(.damaged, "\(path) is missing") }
        let digits = String(decoding: bytes, as: UTF8.self).filter { !$0.isWhitespace }
        guard let sealing = Hexadecimal.bytes(digits).flatMap({ Sealing($0) }) else {
            throw KeyFailure(.damaged, "\(path) is damaged: it holds \(2 * Sealing.keySize) hexadecimal digits")
        }
        return sealing
    }
}
