import Database
import JSON
import Primitives
import Testing

@testable import BlockStorage

/// What one client can make the database hold has a limit.
@Suite("What clients make the database keep")
struct HistoryTests {
    private static func connector(_ host: String) -> JSON { ["host": .string(host), "initiator": "iqn.2026-01.org.example:one"] }

    @Test("an operation that has ended keeps nothing of what its client wrote")
    func endedOperation() async throws {
        let storage = try await Storage()
        let id = try await storage.create(name: "one")
        try await storage.finish(id)
        let connect = try await storage.database.write { [storage] tx in
            try storage.requests.connect(
                volumeID: id, connector: Self.connector(String(repeating: "h", count: 200)), caller: storage.caller, in: tx)
        }
        let before = try #require(try storage.database.readBlocking { try Operations.find(connect, in: $0) })
        #expect(before.arguments.contains("iqn.2026-01"))
        try await storage.database.write { tx in
            try Operations.advance(
                connect, step: "connect", reverting: false, attempts: 0, state: ConnectVolumeArguments(connector: Self.connector("found")),
                error: nil, in: tx)
            try Operations.finish(before, state: .done, error: nil, in: tx)
        }
        let after = try #require(try storage.database.readBlocking { try Operations.find(connect, in: $0) })
        #expect(after.arguments == "{}" && after.stepState == "{}" && after.finishedAt != nil)
    }

    @Test("a volume is connected to so many hosts and no more; one that is connected may connect again")
    func hosts() async throws {
        let storage = try await Storage()
        let id = try await storage.create()
        try await storage.finish(id)
        try await storage.database.write { tx in
            let volume = try #require(try Volumes.lock(id, in: tx))
            for number in 0..<Attachments.mostPerVolume {
                try HostConnections.begin(volume, connector: Self.connector("h\(number)"), in: tx)
            }
        }
        try await storage.database.write { try HostConnections.checkNumber(id, connector: Self.connector("h7"), in: $0) }
        await #expect(throws: StorageError.self) {
            try await storage.database.write { [storage] tx in
                try storage.requests.connect(volumeID: id, connector: Self.connector("one more"), caller: storage.caller, in: tx)
            }
        }
    }

    @Test("os-attach makes no more attachments of a volume than there may be")
    func attachments() async throws {
        let storage = try await Storage()
        let id = try await storage.create()
        try await storage.finish(id)
        let attach: @Sendable (String) async throws -> Void = { [storage] mountpoint in
            try await storage.database.write { tx in
                try tx.update(VolumeTable.table, VolumeTable.table.id(id), set: VolumeTable.table.multiattach(true))
                try Attachments.attach(
                    volumeID: id, instanceID: nil, host: "h", mountpoint: mountpoint, mode: "rw", caller: storage.caller, in: tx)
            }
        }
        try await attach("/dev/vda")
        try await storage.database.write { tx in
            let volume = try #require(try Volumes.lock(id, in: tx))
            for _ in 1..<Attachments.mostPerVolume {
                try Attachments.insert(
                    volume: volume, instanceID: nil, host: "h", mountpoint: "/dev/vdb", status: .attached, mode: "rw", attachedAt: tx.now,
                    connector: nil, in: tx)
            }
        }
        await #expect(throws: StorageError.self) { try await attach("/dev/vdc") }
        try await attach("/dev/vda")
    }

    @Test("so many operations wait for one volume and no more")
    func waiting() async throws {
        let storage = try await Storage()
        let id = try await storage.create()
        try await storage.finish(id)
        let ask: @Sendable () async throws -> String = { [storage] in
            try await storage.database.write { tx in
                try storage.requests.connect(volumeID: id, connector: Self.connector("h"), caller: storage.caller, in: tx)
            }
        }
        let first = try await ask()
        for _ in 0..<Operations.mostWaiting { _ = try await ask() }
        await #expect(throws: StorageError.self) { try await ask() }
        try await storage.database.write { tx in
            try Operations.finish(try #require(try Operations.find(first, in: tx)), state: .done, error: nil, in: tx)
        }
        _ = try await ask()
    }
}
