import Database
import JSON
import Testing

@testable import BlockStorage

/// What is noted for others, in the transaction of what happened.
@Suite("Notifications")
struct NotificationTests {
    private func storage() async throws -> Storage {
        let storage = try await Storage()
        storage.database.accompany(by: NotificationOutbox(node: "node"))
        return storage
    }

    private func noted(_ storage: Storage) throws -> [PendingNotification] {
        try storage.database.readBlocking { try PendingNotifications.first(1000, in: $0) }
    }

    private func types(_ storage: Storage) throws -> [String] { try noted(storage).map(\.eventType) }

    @Test("where nobody is to be notified nothing is noted")
    func off() async throws {
        let storage = try await Storage()
        let id = try await storage.create()
        try await storage.finish(id)
        try await storage.database.write { [caller = storage.caller] tx in
            try Volumes.update(id, name: "n", description: nil, metadata: nil, caller: caller, in: tx)
        }
        #expect(try noted(storage).isEmpty)
    }

    @Test("a deletion is noted where it is accepted, with the state in which the volume then is")
    func accepted() async throws {
        let storage = try await storage()
        let id = try await storage.create(2, name: "it's")
        try await storage.finish(id)
        try await storage.database.write { [requests = storage.requests, caller = storage.caller] tx in
            try requests.delete(id, force: false, caller: caller, in: tx)
        }
        let note = try #require(try noted(storage).last)
        #expect(note.eventType == "volume.delete.start" && note.priority == "info" && note.publisher == "volume.h@b")
        #expect(note.userID == "u" && note.projectID == "p" && note.requestID == "req-test" && note.resourceID == id)
        let payload = try JSON(parsing: note.payload)
        #expect(
            payload.object?.names == [
                "tenant_id", "host", "user_id", "availability_zone", "volume_id", "volume_type", "display_name", "launched_at",
                "created_at",
                "status", "snapshot_id", "size", "replication_status", "replication_extended_status", "replication_driver_data", "metadata",
                "volume_attachment",
            ])
        #expect(payload["status"] == "deleting" && payload["size"] == 2 && payload["display_name"] == "it's" && payload["host"] == "h@b#p")
        #expect(payload["created_at"]?.string?.hasSuffix("+00:00") == true)
    }

    @Test("what fails leaves no note")
    func undone() async throws {
        let storage = try await storage()
        let id = try await storage.create()
        try await storage.finish(id)
        struct Trouble: Error {}
        await #expect(throws: Trouble.self) {
            try await storage.database.write { [requests = storage.requests, caller = storage.caller] tx in
                try requests.delete(id, force: false, caller: caller, in: tx)
                throw Trouble()
            }
        }
        #expect(try types(storage).isEmpty)
    }

    @Test("changes that are made at once are noted with both their ends, and no connector is told")
    func atOnce() async throws {
        let storage = try await storage()
        let id = try await storage.create()
        try await storage.finish(id)
        let caller = storage.caller
        try await storage.database.write { tx in
            try Volumes.update(id, name: "n", description: nil, metadata: ["k": "v"], caller: caller, in: tx)
            try Attachments.attach(
                volumeID: id, instanceID: "5b1d2c9c-0a55-4d4c-8a4a-9d9d4b0f1f0e", host: nil, mountpoint: "/dev/vdb", mode: "rw",
                caller: caller, in: tx)
            try tx.run(text: "UPDATE attachments SET connector = '{\"hush\":1}', connection_info = '{\"hush\":1}'", [])
            try Volumes.resetStatus(id, status: .error, attachStatus: nil, migrationStatus: nil, caller: caller, in: tx)
        }
        #expect(
            try types(storage) == [
                "volume.update.start", "volume.update.end", "volume.attach.start", "volume.attach.end", "volume.reset_status.start",
                "volume.reset_status.end",
            ])
        let last = try #require(try noted(storage).last)
        #expect(!last.payload.contains("hush"))
        let payload = try JSON(parsing: last.payload)
        #expect(payload["metadata"] == [["key": "k", "value": "v"]])
        #expect(payload["volume_attachment"]?.array?.first?["instance_uuid"] == "5b1d2c9c-0a55-4d4c-8a4a-9d9d4b0f1f0e")
    }

    @Test("each has an id of its own, and they go in the order in which they came")
    func order() async throws {
        let storage = try await storage()
        let id = try await storage.create()
        try await storage.finish(id)
        for number in 0..<5 {
            try await storage.database.write { [caller = storage.caller] tx in
                try Volumes.update(id, name: .string("\(number)"), description: nil, metadata: nil, caller: caller, in: tx)
            }
        }
        let all = try noted(storage)
        #expect(Set(all.map(\.messageID)).count == 10)
        #expect(try all.map { try JSON(parsing: $0.payload)["display_name"]?.string } == (0..<10).map { "\($0 / 2)" })
        try await storage.database.write { try PendingNotifications.remove(all.prefix(3).map(\.id), in: $0) }
        #expect(try noted(storage).map(\.id) == all.dropFirst(3).map(\.id))
        let summary = try storage.database.readBlocking { try PendingNotifications.summary(in: $0) }
        #expect(summary.count == 7 && summary.oldest == all[3].createdAt)
    }

    @Test("beyond the limit the oldest go")
    func limit() async throws {
        let storage = try await storage()
        let id = try await storage.create()
        try await storage.finish(id)
        try await storage.database.write { [caller = storage.caller] tx in
            for _ in 0..<4 { try Volumes.update(id, name: "n", description: nil, metadata: nil, caller: caller, in: tx) }
        }
        #expect(try await storage.database.write { try PendingNotifications.drop(over: 8, in: $0) } == 0)
        #expect(try await storage.database.write { try PendingNotifications.drop(over: 5, in: $0) } == 3)
        #expect(try noted(storage).count == 5)
    }
}
