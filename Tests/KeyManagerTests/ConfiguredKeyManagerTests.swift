import KeyManager
import Settings
import TestSupport
import Testing

@Suite struct ConfiguredKeyManagerTests {
    let directory = temporaryDirectory("keys")
    static let digits = String(repeating: "0123456789abcdef", count: 4)

    private func manager(_ text: String, access: (any KeyServiceAccess)? = nil) throws -> any KeyManager {
        try KeyManagers.configured(
            Settings(text: text, known: OptionCatalogue(Options.keyManager, Options.barbican)), stateDirectory: directory, access: access)
    }

    @Test func `without a word keys are files in the state directory`() async throws {
        let id = try await manager("").create(KeyRequest(bits: 256, name: "a"))
        #expect(try await FileKeyStore(directory + "/keys").key(id) == manager("").key(id))
    }

    @Test(arguments: ["fixed", "cinder.keymgr.conf_key_mgr.ConfKeyManager"])
    func `the fixed key is that of all volumes, under the id of zeros`(name: String) async throws {
        let manager = try manager("[key_manager]\nbackend = \(name)\nfixed_key = \(Self.digits)\n")
        let id = try await manager.create(KeyRequest(bits: 256, name: "a"))
        #expect(id == "00000000-0000-0000-0000-000000000000")
        #expect(try await manager.copy(id, as: KeyRequest(bits: 256, name: "b")) == id)
        try await manager.delete(id)
        #expect(try await manager.key(id).passphrase.reveal() == Self.digits)
        await #expect(throws: KeyFailure.self) { try await manager.key("00000000-0000-4000-8000-000000000001") }
    }

    @Test func `that another key manager keeps a key is said where it is to be deleted`() async throws {
        let manager = try manager("[key_manager]\nbackend = fixed\nfixed_key = \(Self.digits)\n")
        do {
            try await manager.delete("00000000-0000-4000-8000-000000000001")
            Issue.record("it was deleted")
        } catch {
            #expect("\(error)".contains("another key manager keeps it, which [key_manager] backend must name"))
        }
    }

    @Test func `beside another backend it is that of the volumes which had it before`() async throws {
        let manager = try manager("[key_manager]\nfixed_key = \(Self.digits)\n")
        let id = try await manager.create(KeyRequest(bits: 256, name: "a"))
        #expect(id != FixedKey.id)
        #expect(try await manager.key(FixedKey.id).passphrase.reveal() == Self.digits)
        let copy = try await manager.copy(FixedKey.id, as: KeyRequest(bits: 256, name: "b"))
        #expect(copy != FixedKey.id)
        #expect(try await manager.key(copy).passphrase.reveal() == Self.digits)
        try await manager.delete(FixedKey.id)
        _ = try await manager.key(FixedKey.id)
    }

    @Test(arguments: [
        ("[key_manager]\nbackend = fixed\n", "fixed_key is not set"), ("[key_manager]\nfixed_key = 0\n", "fixed_key must be"),
        ("[key_manager]\nfixed_key = \(String(repeating: "xy", count: 16))\n", "fixed_key must be"),
        ("[key_manager]\nfixed_key = 00\n", "fixed_key must be"), ("[key_manager]\nbackend = barbican\n", "auth_strategy = keystone"),
        ("[key_manager]\nbackend = vault\n", "must be one of"),
    ])
    func `a configuration that cannot be is named`(text: String, words: String) {
        do {
            _ = try manager(text)
            Issue.record("it was taken")
        } catch {
            #expect("\(error)".contains(words))
            #expect(!"\(error)".contains("xyxy"))
        }
    }
}
