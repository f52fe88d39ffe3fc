import Primitives
import Testing

@testable import OpenStack

@Suite("Work for strangers")
struct FairQueueTests {
    /// A queue of one thread that is held until it is let go, and what became of the work.
    private final class Held: Sendable {
        private let queue: FairQueue
        private let door = Semaphore()
        private let ends = Semaphore()
        private let told = Guarded<(done: [String], dropped: [String], added: Int)>(([], [], 0))

        init(capacity: Int, share: Int) {
            queue = FairQueue(name: "test", threads: 1, capacity: capacity, share: share)
            let (door, inside) = (door, Semaphore())
            queue.add(
                for: FairQueue.Client("holder"),
                work: {
                    inside.post()
                    door.wait()
                }, drop: {})
            inside.wait()
        }

        func add(
            _ name: String, for client: String, member: String = "", isWanted: Bool = true, rank: @escaping @Sendable () -> Int = { 0 }
        ) {
            let (told, ends) = (told, ends)
            told.withLock { $0.added += 1 }
            queue.add(
                for: FairQueue.Client(client, member: member), rank: rank, while: { isWanted },
                work: {
                    told.withLock { $0.done.append(name) }
                    ends.post()
                },
                drop: {
                    told.withLock { $0.dropped.append(name) }
                    ends.post()
                })
        }

        var count: Int { queue.count }

        /// Lets the thread go and waits for all ends.
        func finish() -> (done: [String], dropped: [String]) {
            door.post()
            for _ in 0..<told.withLock({ $0.added }) { ends.wait() }
            return told.withLock { ($0.done, $0.dropped) }
        }
    }

    @Test("clients take turns however much each brings, and of each the newest goes first")
    func turns() {
        let held = Held(capacity: 100, share: 50)
        for name in ["a1", "a2", "a3", "a4"] { held.add(name, for: "a") }
        for name in ["b1", "b2"] { held.add(name, for: "b") }
        let (done, dropped) = held.finish()
        #expect(done == ["a4", "b2", "a3", "b1", "a2", "a1"])
        #expect(dropped == [])
    }

    @Test("what waits is bounded for each client and in all; the oldest of who has most is dropped")
    func bounds() {
        let held = Held(capacity: 4, share: 3)
        for name in ["a1", "a2", "a3", "a4"] { held.add(name, for: "a") }
        #expect(held.count == 3)
        for name in ["b1", "c1"] { held.add(name, for: name) }
        #expect(held.count == 4)
        let (done, dropped) = held.finish()
        #expect(done == ["a4", "b1", "c1", "a3"])
        #expect(dropped == ["a1", "a2"])
    }

    @Test("of one group the newest of its clients goes first, and a group of many clients has no more turns than one of a single client")
    func groups() {
        let held = Held(capacity: 100, share: 50)
        for index in 1...4 { held.add("a\(index)", for: "a", member: "\(index)") }
        for name in ["b1", "b2"] { held.add(name, for: "b") }
        #expect(held.finish().done == ["a4", "b2", "a3", "b1", "a2", "a1"])
    }

    @Test("a better rank goes first whenever it becomes known, and the worst gives way where there is no room")
    func ranks() {
        let held = Held(capacity: 4, share: 3)
        let failed = Guarded(false)
        held.add("stranger", for: "x", rank: { 3 })
        held.add("failing", for: "y", rank: { failed.withLock { $0 } ? 2 : 1 })
        for name in ["other stranger", "third stranger", "fourth stranger"] { held.add(name, for: name, rank: { 3 }) }
        held.add("known", for: "z", rank: { 0 })
        held.add("new", for: "w", rank: { 1 })
        failed.withLock { $0 = true }
        let (done, dropped) = held.finish()
        #expect(done == ["known", "new", "failing", "fourth stranger"])
        #expect(dropped == ["stranger", "other stranger", "third stranger"])
    }

    @Test("who was let in goes first, who failed often last; a flood of failures displaces nobody who was let in")
    func history() {
        let history = ClientHistory(capacity: 10)
        let (alice, other) = (Digest("alice"), Digest("other"))
        #expect(history.rank(alice, now: 0) == 1)
        history.add(alice, isGood: true, now: 0)
        #expect(history.rank(alice, now: 1) == 0)
        for index in 0..<100 { history.add(Digest("\(index)"), isGood: false, now: 2) }
        #expect(history.rank(alice, now: 3) == 0)
        for time in [4.0, 5, 6] {
            history.add(other, isGood: false, now: time)
            #expect(history.rank(other, now: time) == (time < 6 ? 1 : 2))
        }
        #expect(history.rank(other, now: 1000) == 1)
        history.add(alice, isGood: false, now: 7)
        #expect(history.rank(alice, now: 8) == 1)
        history.add(alice, isGood: true, now: 9)
        #expect(history.rank(alice, now: 10) == 0 && history.rank(alice, now: 100_000) == 1)
    }

    @Test("what nobody waits for any more is not begun")
    func abandoned() {
        let held = Held(capacity: 100, share: 50)
        held.add("left", for: "a", isWanted: false)
        held.add("stayed", for: "a")
        let (done, dropped) = held.finish()
        #expect(done == ["stayed"])
        #expect(dropped == ["left"])
    }

    @Test("addresses of one IPv6 network share their turns, an IPv4 address has its own however it is written")
    func shares() {
        #expect(Asker.share(of: "2001:db8:1:2::1") == Asker.share(of: "2001:db8:1:2:ffff::9"))
        #expect(Asker.share(of: "2001:db8:1:2::1") != Asker.share(of: "2001:db8:1:3::1"))
        #expect(Asker.share(of: "::ffff:192.0.2.1") != Asker.share(of: "::ffff:192.0.2.2"))
        #expect(Asker.share(of: "192.0.2.1") != Asker.share(of: "192.0.2.2"))
    }
}
