import BlockStorage
import Database
import Glibc
import HTTPServer
import Logging
import Primitives
import TestSupport
import Testing

@testable import BlockAPI
@testable import OpenStack

/// The hub hands every event to everybody whom it concerns, once and in order, however many write and look.
@Suite("Event hub")
struct EventHubTests {
    private final class Fixture: Sendable {
        let directory: String
        let database: SQLiteDatabase
        let hub: EventHub

        init() async throws {
            directory = temporaryDirectory("events")
            database = try SQLiteDatabase(path: directory + "/db")
            try await database.migrate(Schema.migrations)
            hub = EventHub(database: database, log: Logger(label: "events") { _ in SwiftLogNoOpLogHandler() })
        }

        deinit {
            hub.close()
            database.close()
        }

        func happen(_ kind: String, project: String = "p", error: String? = nil) async throws {
            try await database.write { tx in
                try Events.append(
                    kind, resourceType: "volume", resourceID: "v", projectID: project, operationID: nil, requestID: "req",
                    data: error.map { ["error": .string($0)] } ?? [:], in: tx)
            }
        }
    }

    /// Reads a stream as a connection does, on a thread of its own, until it has so many events; what came.
    private static func follow(_ stream: EventHub.Subscriber, until count: Int) async -> String {
        await withCheckedContinuation { continuation in
            startThread("follower") {
                var text = ""
                let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 700, alignment: 16)
                defer { buffer.deallocate() }
                reading: while text.ranges(of: "data: ").count < count || !text.hasSuffix("\n\n") {
                    let woken = Semaphore()
                    switch stream.read(into: buffer, park: { { woken.post() } }) {
                    case .bytes(let count): text += String(decoding: UnsafeRawBufferPointer(rebasing: buffer[..<count]), as: UTF8.self)
                    case .later: woken.wait()
                    case .searching: break
                    case .end: break reading
                    }
                }
                stream.closed()
                continuation.resume(returning: text)
            }
        }
    }

    private static func ids(_ text: String) -> [Int] {
        text.split(separator: "\n").filter { $0.hasPrefix("id: ") }.compactMap { Int($0.dropFirst(4)) }
    }

    @Test("eight writers, eight followers: each gets each event once, in order")
    func many() async throws {
        let fixture = try await Fixture()
        var streams: [EventHub.Subscriber] = []
        for _ in 0..<8 {
            streams.append(
                try await fixture.hub.subscribe(
                    EventHub.Selection(projectID: nil, resourceID: nil, kind: nil, isAdmin: true), after: nil, owner: "u"))
        }
        try await withThrowingTaskGroup(of: [Int]?.self) { group in
            for stream in streams { group.addTask { Self.ids(await Self.follow(stream, until: 400)) } }
            for writer in 0..<8 {
                group.addTask {
                    for _ in 0..<50 { try await fixture.happen("writer.\(writer)") }
                    return nil
                }
            }
            for try await ids in group { if let ids { #expect(ids == Array(1...400)) } }
        }
        #expect(fixture.hub.count == 0)
    }

    @Test("a follower begins where it left, from memory or from the database, and hears only what it asked for")
    func resumption() async throws {
        let fixture = try await Fixture()
        for index in 0..<700 {
            try await fixture.happen(index % 2 == 0 ? "volume.made" : "snapshot.made", project: index % 7 == 0 ? "other" : "p")
        }
        func subscribe(_ after: Int64?, project: String? = nil, kind: String? = nil) async throws -> EventHub.Subscriber {
            try await fixture.hub.subscribe(
                EventHub.Selection(projectID: project, resourceID: nil, kind: kind, isAdmin: true), after: after, owner: "u")
        }
        #expect(Self.ids(await Self.follow(try await subscribe(0), until: 700)) == Array(1...700))
        #expect(Self.ids(await Self.follow(try await subscribe(650), until: 50)) == Array(651...700))
        #expect(Self.ids(await Self.follow(try await subscribe(0, project: "other"), until: 100)) == (0..<100).map { $0 * 7 + 1 })
        #expect(Self.ids(await Self.follow(try await subscribe(690, kind: "snapshot"), until: 5)) == [692, 694, 696, 698, 700])
        async let late = Self.follow(try await subscribe(nil), until: 1)
        while fixture.hub.count == 0 { usleep(1_000) }
        try await fixture.happen("volume.made")
        #expect(Self.ids(try await late) == [701])
    }

    @Test("a search through a long history goes on in short turns, and finds what is there")
    func search() async throws {
        let fixture = try await Fixture()
        try await fixture.database.write { tx in
            _ = try tx.run(
                text: """
                    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
                    INSERT INTO events (time, kind, resource_type, resource_id, project_id, request_id, data)
                    SELECT 't', CASE WHEN i % 4000 = 0 THEN 'rare.made' ELSE 'often.made' END, 'volume', 'v' || (i % 10), 'p', 'r', '{}' FROM n
                    """, [])
        }
        /// The turns that found nothing and had more to look at, until there was nothing more.
        func turns(_ selection: EventHub.Selection) async throws -> (searching: Int, ids: [Int]) {
            let stream = try await fixture.hub.subscribe(selection, after: 0, owner: "u")
            defer { stream.closed() }
            var (searching, text) = (0, "")
            let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 700, alignment: 16)
            defer { buffer.deallocate() }
            while true {
                switch stream.read(into: buffer, park: { {} }) {
                case .bytes(let count): text += String(decoding: UnsafeRawBufferPointer(rebasing: buffer[..<count]), as: UTF8.self)
                case .searching: searching += 1
                case .later, .end: return (searching, Self.ids(text))
                }
            }
        }
        for project in [nil, "p"] {
            let none = try await turns(EventHub.Selection(projectID: project, resourceID: nil, kind: "nothing", isAdmin: true))
            #expect(none.searching == 5 && none.ids.isEmpty, "\(none)")
            let rare = try await turns(EventHub.Selection(projectID: project, resourceID: nil, kind: "rare", isAdmin: true))
            #expect(rare.ids == [4000, 8000] && rare.searching == 3, "\(rare)")
        }
        // Where an index finds what is asked for, nothing else is looked at.
        let other = try await turns(EventHub.Selection(projectID: "other", resourceID: nil, kind: nil, isAdmin: true))
        #expect(other.searching == 1 && other.ids.isEmpty)
        let resource = try await turns(EventHub.Selection(projectID: "p", resourceID: "v0", kind: "often.made", isAdmin: true))
        #expect(resource.ids.count == 998 && resource.searching <= 1, "\(resource.ids.count), \(resource.searching)")
        // A kind ends where its name does.
        #expect(try await turns(EventHub.Selection(projectID: "p", resourceID: nil, kind: "rar", isAdmin: true)).ids.isEmpty)
    }

    @Test("one owner follows a bounded number, and another after one has left")
    func bounded() async throws {
        let fixture = try await Fixture()
        let hub = EventHub(
            database: fixture.database, limitPerOwner: 2, log: Logger(label: "events") { _ in SwiftLogNoOpLogHandler() })
        defer { hub.close() }
        let selection = EventHub.Selection(projectID: "p", resourceID: nil, kind: nil, isAdmin: false)
        var streams: [EventHub.Subscriber] = []
        for _ in 0..<2 { streams.append(try await hub.subscribe(selection, after: nil, owner: "u")) }
        await #expect(throws: HTTPError.self) { try await hub.subscribe(selection, after: nil, owner: "u") }
        _ = try await hub.subscribe(selection, after: nil, owner: "v")
        streams[0].closed()
        streams[0].closed()
        _ = try await hub.subscribe(selection, after: nil, owner: "u")
        await #expect(throws: HTTPError.self) { try await hub.subscribe(selection, after: nil, owner: "u") }
    }

    /// What the stream gives until it waits or has ended, and whether it has.
    private static func drain(_ stream: EventHub.Subscriber, woken: @escaping @Sendable () -> Void = {}) -> (text: String, isOver: Bool) {
        var text = ""
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 700, alignment: 16)
        defer { buffer.deallocate() }
        while true {
            switch stream.read(into: buffer, park: { woken }) {
            case .bytes(let count): text += String(decoding: UnsafeRawBufferPointer(rebasing: buffer[..<count]), as: UTF8.self)
            case .searching: break
            case .later: return (text, false)
            case .end: return (text, true)
            }
        }
    }

    @Test("a stream ends when its token has expired, though nothing happens on it, and tells nothing more")
    func expiry() async throws {
        let fixture = try await Fixture()
        let token = KeystoneToken(
            userID: "u", userDomainID: nil, projectID: "p", projectDomainID: nil, domainID: nil, isSystemScoped: false, roles: ["member"],
            expires: 1000)
        let standing = Guarded(KeystoneStanding.State(token, isVouchedFor: false))
        let clock = Guarded(999.0)
        let renewals = Guarded(0)
        func subscribe() async throws -> EventHub.Subscriber {
            try await fixture.hub.subscribe(
                EventHub.Selection(projectID: "p", resourceID: nil, kind: nil, isAdmin: false), after: 0, owner: "u",
                while: { standing.withLock { $0.holds(at: clock.withLock { $0 }) } }, renew: { renewals.withLock { $0 += 1 } })
        }
        let stream = try await subscribe()
        #expect(Self.drain(stream).isOver == false)
        try await fixture.happen("volume.made")
        // It may take the hub a moment to read what happened.
        var told: [Int] = []
        for _ in 0..<10_000 where told.isEmpty {
            told = Self.ids(Self.drain(stream).text)
            usleep(1_000)
        }
        #expect(told == [1])
        let woken = Semaphore()
        #expect(Self.drain(stream, woken: { woken.post() }).isOver == false)
        fixture.hub.check()
        #expect(renewals.withLock { $0 } > 0, "whoever can say more of the token is asked")
        clock.withLock { $0 = 1000 }
        fixture.hub.check()
        #expect(woken.wait(seconds: 10), "the stream is woken to end")
        try await fixture.happen("volume.deleted")
        let (text, isOver) = Self.drain(stream)
        #expect(isOver && text.isEmpty, "\(text)")
        stream.closed()
        #expect(fixture.hub.count == 0)
        #expect(Self.drain(try await subscribe()).isOver, "nor does a new one begin")
    }

    @Test("a token holds until it expires, is refused, or stands for other roles; a service's beside it lets it expire")
    func standings() {
        func token(_ roles: [String] = ["member", "reader"], expires: Double = 1000) -> KeystoneToken {
            KeystoneToken(
                userID: "u", userDomainID: nil, projectID: "p", projectDomainID: nil, domainID: nil, isSystemScoped: false, roles: roles,
                expires: expires)
        }
        func state(_ known: KeystoneToken?, isVouchedFor: Bool = false, then: KeystoneToken?...) -> KeystoneStanding.State {
            var state = KeystoneStanding.State(known, isVouchedFor: isVouchedFor)
            for found in then { state.take(found) }
            return state
        }
        for (state, at, holds) in [
            (state(token()), 999, true), (state(token()), 1000, false), (state(token(), isVouchedFor: true), 1000, true),
            (state(nil), 5000, true), (state(nil, then: token()), 1000, false),
            (state(token(), then: token(["reader", "member"], expires: 2000)), 1500, true),
            (state(token(), then: token(["reader"])), 500, false),
            (state(token(), then: token(["reader"]), token()), 500, false),
            (state(token(), then: nil), 500, false), (state(token(), isVouchedFor: true, then: nil), 500, false),
            (state(token(), then: nil, token()), 500, false),
        ] as [(KeystoneStanding.State, Double, Bool)] {
            #expect(state.holds(at: at) == holds, "\(state) at \(at)")
        }
    }

    @Test("users do not see what a backend said; closing ends every stream")
    func secrecy() async throws {
        let fixture = try await Fixture()
        try await fixture.happen("step.failed", error: "ceph: secret pool is full")
        let plain = try await fixture.hub.subscribe(
            EventHub.Selection(projectID: "p", resourceID: nil, kind: nil, isAdmin: false), after: 0, owner: "u")
        let full = try await fixture.hub.subscribe(
            EventHub.Selection(projectID: nil, resourceID: nil, kind: nil, isAdmin: true), after: 0, owner: "u")
        #expect(await !Self.follow(plain, until: 1).contains("secret pool"))
        #expect(await Self.follow(full, until: 1).contains("secret pool"))
        let open = try await fixture.hub.subscribe(
            EventHub.Selection(projectID: nil, resourceID: nil, kind: nil, isAdmin: true), after: nil, owner: "u")
        async let text = Self.follow(open, until: 1)
        usleep(20_000)
        fixture.hub.close()
        #expect(await Self.ids(text).isEmpty)
    }
}
