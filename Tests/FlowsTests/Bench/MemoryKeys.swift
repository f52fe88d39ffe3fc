import DriverHost
import KeyManager
import Primitives

/// Keys in memory, made by calls of a test's script.
final class MemoryKeys: KeyManager {
    private struct Kept {
        let id: String
        let key: EncryptionKey
    }

    private let script: Script
    private let kept = Guarded<[String: Kept]>([:])
    /// Makes the keys, which this keeps.
    private let fixed = (0..<4).compactMap { number in try? FixedKey(Secret(String(repeating: "0\(number)", count: 32))) }
    private let made = Guarded(0)

    init(_ script: Script) { self.script = script }

    /// Names under which there are keys.
    var names: [String] { kept.withLock { Array($0.keys) } }

    func holds(_ id: String) -> Bool { kept.withLock { $0.values.contains { $0.id == id } } }
    func find(_ id: String) -> EncryptionKey? { kept.withLock { $0.values.first { $0.id == id }?.key } }

    private func call<T>(_ name: String, _ effect: () -> T) throws(KeyFailure) -> T {
        do { return try script.run(name, effect) } catch { throw KeyFailure(.unavailable, "\(error)") }
    }

    func create(_ request: KeyRequest) async throws(KeyFailure) -> String {
        let number = made.withLock { number in
            number += 1
            return number
        }
        let key = try await fixed[number % fixed.count].key(FixedKey.id)
        return try call("create key") { store(key, request.name) }
    }

    func keep(_ key: EncryptionKey, as request: KeyRequest) async throws(KeyFailure) -> String {
        try call("keep key") { store(key, request.name) }
    }

    private func store(_ key: EncryptionKey, _ name: String) -> String {
        kept.withLock { kept in
            if let known = kept[name] { return known.id }
            let id = UUID.random()
            kept[name] = Kept(id: id, key: key)
            return id
        }
    }

    func key(_ id: String) async throws(KeyFailure) -> EncryptionKey {
        guard let key = try call("get key", { find(id) }) else { throw KeyFailure(.notFound, "there is no key \(id)") }
        return key
    }

    /// Why keys are not deleted; nil: they are.
    let refuses = Guarded<KeyFailure?>(nil)

    /// What each deletion and each opening of a key is answered; nil: it is done.
    let answers = Guarded<(@Sendable () -> KeyFailure?)?>(nil)

    func delete(_ id: String) async throws(KeyFailure) {
        if let answers = answers.withLock({ $0 }) {
            if let refusal = answers() { throw refusal }
            return kept.withLock { kept in kept = kept.filter { $0.value.id != id } }
        }
        if let refusal = refuses.withLock({ $0 }) { throw refusal }
        try call("delete key") { kept.withLock { kept in kept = kept.filter { $0.value.id != id } } }
    }

    func open(_ id: String, to userID: String) async throws(KeyFailure) {
        if let refusal = answers.withLock({ $0 })?() { throw refusal }
        guard try call("open key", { find(id) }) != nil else { throw KeyFailure(.notFound, "there is no key \(id)") }
    }

    /// What other projects' certificates hold, by their ids, or why they cannot be had.
    let certificates = Guarded<[String: Result<[UInt8], KeyFailure>]>([:])

    func certificate(_ id: String) async throws(KeyFailure) -> [UInt8] {
        guard let certificate = certificates.withLock({ $0[id] }) else { throw KeyFailure(.notFound, "there is no secret \(id)") }
        return try certificate.get()
    }

    func discard(_ name: String) async throws(KeyFailure) {
        try call("discard key") { kept.withLock { $0[name] = nil } }
    }
}
