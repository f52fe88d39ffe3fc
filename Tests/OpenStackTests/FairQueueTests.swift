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
                for: "holder",
                work: {
                    inside.post()
                    door.wait()
                }, drop: {})
            inside.wait()
        }

        func add(_ name: String, for client: String, isWanted: Bool = true) {
            let (told, ends) = (told, ends)
            told.withLock { $0.added += 1 }
            queue.add(
                for: client, while: { isWanted },
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
