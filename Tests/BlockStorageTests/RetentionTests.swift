import Testing

@testable import BlockStorage
@testable import Calendar

/// Which copies are kept, without a database.
@Suite("Retention of copies")
struct RetentionTests {
    private static func time(_ year: Int, _ month: Int, _ day: Int, _ hour: Int = 0) -> Int {
        CivilDate(year, month, day).day * 86_400 + hour * 3600
    }

    private func retention(_ change: (inout Retention) -> Void) -> Retention {
        var retention = Retention()
        change(&retention)
        return retention
    }

    /// One each day at noon, from a day on.
    private func daily(_ count: Int, from start: Int = time(2026, 1, 1, 12)) -> [Retention.Copy] {
        (0..<count).map { Retention.Copy(id: "d\($0)", time: start + $0 * 86_400, condition: .good) }
    }

    private func kept(_ retention: Retention, _ copies: [Retention.Copy], in zone: TimeZone = .utc) -> [String] {
        let expired = Set(retention.expired(copies, in: zone))
        return copies.map(\.id).filter { !expired.contains($0) }
    }

    @Test("without a rule everything is kept")
    func unlimited() {
        #expect(!Retention().isLimited)
        #expect(kept(Retention(), daily(50)).count == 50)
    }

    @Test("keep_last keeps the newest")
    func last() { #expect(kept(retention { $0.last = 3 }, daily(10)) == ["d7", "d8", "d9"]) }

    @Test("each period keeps its newest, and those with none in between do not count")
    func periods() {
        // Three in a day, on every other day.
        let copies = (0..<12).map {
            Retention.Copy(id: "\($0)", time: Self.time(2026, 1, 1 + $0 / 3 * 2, 6 + $0 % 3 * 6), condition: .good)
        }
        #expect(kept(retention { $0.daily = 2 }, copies) == ["8", "11"])
        #expect(kept(retention { $0.hourly = 4 }, copies) == ["8", "9", "10", "11"])
        let months = (1...12).map { Retention.Copy(id: "\($0)", time: Self.time(2026, $0, 15), condition: .good) }
        #expect(kept(retention { $0.monthly = 2 }, months) == ["11", "12"])
        #expect(kept(retention { $0.yearly = 1 }, months) == ["12"])
    }

    @Test("weeks begin on Monday")
    func weeks() {
        // 4 January 2026 is a Sunday.
        #expect(kept(retention { $0.weekly = 2 }, daily(8)) == ["d3", "d7"])
    }

    @Test("a rule passes over the periods of what earlier rules keep, as Proxmox Backup does")
    func rulesTogether() {
        // 2026-01-01 to 2026-04-10.
        let copies = daily(100)
        let kept = kept(retention { ($0.last, $0.daily, $0.weekly, $0.monthly) = (3, 3, 2, 2) }, copies)
        // 31 January, 28 February; 22 and 29 March, which are Sundays; 5 to 7 April; 8 to 10 April.
        #expect(kept == ["d30", "d58", "d80", "d87", "d94", "d95", "d96", "d97", "d98", "d99"])
    }

    @Test("periods are those of the time zone, also where its clock is put back")
    func zones() throws {
        let rest = try #require(TimeZoneRules.Rest(posix: "CET-1CEST,M3.5.0,M10.5.0/3"))
        let berlin = TimeZone(name: "Berlin", rules: TimeZoneRules(transitions: [], first: 0, last: rest))
        // 23:30 and 00:30 in Berlin are one day in UTC.
        let copies = [
            Retention.Copy(id: "late", time: Self.time(2026, 7, 1, 21) + 1800, condition: .good),
            Retention.Copy(id: "early", time: Self.time(2026, 7, 1, 22) + 1800, condition: .good),
        ]
        #expect(kept(retention { $0.daily = 5 }, copies) == ["early"])
        #expect(kept(retention { $0.daily = 5 }, copies, in: berlin) == ["late", "early"])
    }

    @Test("keep_within counts from the newest copy, not from today")
    func within() throws {
        let span = try #require(CalendarSpan("P3D"))
        #expect(kept(retention { $0.within = span }, daily(10)) == ["d6", "d7", "d8", "d9"])
        #expect(kept(retention { ($0.within, $0.last) = (span, 1) }, daily(10)) == ["d6", "d7", "d8", "d9"])
    }

    @Test("so many stay as minimum_keep says, and the last good one always")
    func minimum() {
        #expect(kept(retention { ($0.yearly, $0.minimum) = (1, 3) }, daily(10)) == ["d7", "d8", "d9"])
        #expect(kept(retention { $0.last = 1 }, daily(1)) == ["d0"])
    }

    @Test("nothing is deleted while the newest failed or is known to be bad, and what failed goes when a later one is whole")
    func failures() {
        var copies = daily(5)
        copies.append(Retention.Copy(id: "bad", time: Self.time(2026, 2, 1), condition: .bad))
        #expect(retention { $0.last = 1 }.expired(copies, in: .utc).isEmpty)
        copies.append(Retention.Copy(id: "good", time: Self.time(2026, 2, 2), condition: .good))
        #expect(kept(retention { $0.last = 1 }, copies) == ["good"])
        #expect(kept(retention { $0.last = 2 }, copies) == ["d4", "good"])
        // One that is being made says nothing yet, and is left alone.
        copies.append(Retention.Copy(id: "busy", time: Self.time(2026, 2, 3), condition: .busy))
        #expect(kept(retention { $0.last = 1 }, copies) == ["good", "busy"])
        #expect(retention { $0.last = 1 }.expired(copies.filter { $0.condition != .good }, in: .utc).isEmpty)
    }

    /// A full copy every fourth day, and increments on it.
    private func chains(_ count: Int) -> [Retention.Copy] {
        daily(count).enumerated().map { index, copy in
            Retention.Copy(id: copy.id, time: copy.time, condition: .good, parent: index % 4 == 0 ? nil : "d\(index - 1)")
        }
    }

    @Test("of copies that rest on one another all are deleted or none, those first that rest on others")
    func wholeChains() {
        #expect(retention { $0.last = 4 }.expired(chains(8), in: .utc) == ["d3", "d2", "d1", "d0"])
        #expect(retention { $0.last = 5 }.expired(chains(8), in: .utc).isEmpty)
        #expect(retention { $0.last = 1 }.expired(chains(9), in: .utc) == ["d7", "d3", "d6", "d2", "d5", "d1", "d4", "d0"])
    }

    @Test("what is being deleted holds nothing, and what it rests on waits for its end")
    func going() {
        var copies = chains(8)
        copies[3] = Retention.Copy(id: "d3", time: copies[3].time, condition: .going, parent: "d2")
        #expect(retention { $0.last = 4 }.expired(copies, in: .utc) == ["d2", "d1", "d0"])
        // It is no copy that is kept.
        copies[7] = Retention.Copy(id: "d7", time: copies[7].time, condition: .going, parent: "d6")
        #expect(retention { $0.last = 3 }.expired(copies, in: .utc) == ["d2", "d1", "d0"])
        #expect(retention { $0.last = 4 }.expired(copies, in: .utc).isEmpty)
    }

    @Test("copies that need no other one go each on its own, and full ones are made for full_every alone")
    func standingAlone() {
        let copies = chains(8).map { Retention.Copy(id: $0.id, time: $0.time, condition: .good, parent: $0.parent, needsParent: false) }
        #expect(kept(retention { $0.last = 2 }, copies) == ["d6", "d7"])
        #expect(!retention { $0.last = 2 }.wantsFull(.auto, fullEvery: nil, after: copies, in: .utc))
        #expect(retention { $0.last = 2 }.wantsFull(.auto, fullEvery: 4, after: copies, in: .utc))
        #expect(!retention { $0.last = 2 }.wantsFull(.auto, fullEvery: 5, after: copies, in: .utc))
    }

    @Test("damaged copies go when the rules would drop them were they good, and not before; they keep no good one from being kept")
    func damaged() {
        var copies = daily(30).map { Retention.Copy(id: $0.id, time: $0.time, condition: .damaged, needsParent: false) }
        copies.append(Retention.Copy(id: "new", time: Self.time(2026, 1, 31, 12), condition: .good, needsParent: false))
        #expect(kept(retention { $0.daily = 31 }, copies).count == 31)
        #expect(kept(retention { $0.last = 3 }, copies) == ["d28", "d29", "new"])
        copies[0] = Retention.Copy(id: "d0", time: copies[0].time, condition: .good, needsParent: false)
        #expect(kept(retention { $0.last = 2 }, copies) == ["d0", "d29", "new"])
        // While the newest is damaged nothing goes.
        #expect(kept(retention { $0.last = 1 }, Array(copies.dropLast())).count == 30)
    }

    @Test("what is protected stays, with its chain, until its time is over")
    func protected() {
        var copies = chains(8)
        copies[1] = Retention.Copy(id: "d1", time: copies[1].time, condition: .good, parent: "d0", protectedUntil: 1000)
        #expect(retention { $0.last = 4 }.expired(copies, in: .utc, at: 999).isEmpty)
        #expect(retention { $0.last = 4 }.expired(copies, in: .utc, at: 1000) == ["d3", "d2", "d1", "d0"])
    }

    @Test("no chain becomes longer than can be read, whatever the policy says")
    func longestChains() {
        func chain(_ count: Int) -> [Retention.Copy] {
            daily(count).enumerated().map { index, copy in
                Retention.Copy(id: copy.id, time: copy.time, condition: .good, parent: index == 0 ? nil : "d\(index - 1)")
            }
        }
        let none = Retention()
        #expect(!none.wantsFull(.auto, fullEvery: nil, after: chain(999), in: .utc))
        #expect(none.wantsFull(.auto, fullEvery: nil, after: chain(1000), in: .utc))
        #expect(!none.wantsFull(.always, fullEvery: nil, after: chain(9_999), in: .utc))
        #expect(none.wantsFull(.always, fullEvery: nil, after: chain(10_000), in: .utc))
    }

    @Test("what somebody else made is never deleted, nor what it rests on")
    func foreign() {
        var copies = chains(8)
        copies.append(Retention.Copy(id: "x", time: Self.time(2026, 1, 3), condition: .good, parent: "d1", isOfPolicy: false))
        #expect(retention { $0.last = 4 }.expired(copies, in: .utc) == ["d3", "d2"])
        // On a foreign full copy the policy's own increments end all the same.
        let mixed = [
            Retention.Copy(id: "x", time: 0, condition: .good, isOfPolicy: false),
            Retention.Copy(id: "a", time: 86_400, condition: .good, parent: "x"),
            Retention.Copy(id: "b", time: 2 * 86_400, condition: .good),
        ]
        #expect(retention { $0.last = 1 }.expired(mixed, in: .utc) == ["a"])
    }

    private struct Seeded: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return state ^ state >> 31
        }
    }

    @Test(
        "over random histories: the newest good one stays, a bad newest one keeps all, chains are whole, and what is deleted first leaves nothing behind that rests on it"
    )
    func invariants() {
        var random = Seeded(state: 22)
        for _ in 0..<400 {
            var copies: [Retention.Copy] = []
            var time = Self.time(2026, 1, 1)
            for number in 0..<Int.random(in: 0...40, using: &random) {
                time += Int.random(in: 1...300_000, using: &random)
                let parent = Bool.random(using: &random) ? copies.filter { $0.condition == .good }.randomElement(using: &random)?.id : nil
                let condition: Retention.Condition = [.good, .good, .good, .bad, .busy].randomElement(using: &random) ?? .good
                copies.append(
                    Retention.Copy(
                        id: "\(number)", time: time, condition: condition, parent: parent,
                        isOfPolicy: Int.random(in: 0..<8, using: &random) > 0))
            }
            let retention = retention {
                func some() -> Int? { Bool.random(using: &random) ? Int.random(in: 1...4, using: &random) : nil }
                ($0.last, $0.hourly, $0.daily, $0.weekly, $0.monthly, $0.yearly) = (some(), some(), some(), some(), some(), some())
                $0.minimum = Int.random(in: 1...3, using: &random)
            }
            let expired = retention.expired(copies.shuffled(using: &random), in: .utc)
            let gone = Set(expired)
            #expect(gone.count == expired.count)
            let own = copies.filter(\.isOfPolicy)
            if let newest = own.last(where: { $0.condition != .busy }), newest.condition == .bad { #expect(gone.isEmpty) }
            if let good = own.last(where: { $0.condition == .good }) { #expect(!gone.contains(good.id)) }
            #expect(copies.allSatisfy { $0.isOfPolicy && $0.condition != .busy || !gone.contains($0.id) })
            let keptGood = own.count { $0.condition == .good && !gone.contains($0.id) }
            #expect(keptGood >= min(retention.minimum, own.count { $0.condition == .good }))
            // Deleted one by one, nothing ever loses what it rests on.
            var left = copies
            for id in expired {
                #expect(!left.contains { $0.parent == id })
                left.removeAll { $0.id == id }
            }
            // Once more nothing is to be done.
            if !expired.isEmpty { #expect(retention.expired(left, in: .utc).isEmpty) }
        }
    }

    @Test("an increment is made where there is a whole copy, and a full one begins a chain that can end")
    func increments() {
        let none = Retention()
        #expect(none.wantsFull(.auto, fullEvery: nil, after: [], in: .utc))
        #expect(none.wantsFull(.always, fullEvery: nil, after: [], in: .utc))
        let chain = chains(4)
        #expect(!none.wantsFull(.auto, fullEvery: nil, after: chain, in: .utc))
        #expect(!none.wantsFull(.auto, fullEvery: 5, after: chain, in: .utc))
        #expect(none.wantsFull(.auto, fullEvery: 4, after: chain, in: .utc))
        #expect(none.wantsFull(.never, fullEvery: nil, after: chain, in: .utc))
        #expect(!none.wantsFull(.always, fullEvery: nil, after: chain, in: .utc))
        // The first of the chain is kept no longer: with one more increment it would stay all the same.
        #expect(retention { $0.last = 3 }.wantsFull(.auto, fullEvery: nil, after: chain, in: .utc))
        #expect(!retention { $0.last = 4 }.wantsFull(.auto, fullEvery: nil, after: chain, in: .utc))
    }

    @Test("made daily for a year by the rules, at most two chains are there at a time")
    func year() {
        let retention = retention { $0.last = 7 }
        var copies: [Retention.Copy] = []
        var most = 0
        for day in 0..<365 {
            let isFull = retention.wantsFull(.auto, fullEvery: nil, after: copies, in: .utc)
            copies.append(
                Retention.Copy(
                    id: "\(day)", time: Self.time(2026, 1, 1) + day * 86_400, condition: .good, parent: isFull ? nil : copies.last?.id))
            let gone = Set(retention.expired(copies, in: .utc))
            copies.removeAll { gone.contains($0.id) }
            most = max(most, copies.count)
            #expect(copies.count >= min(day + 1, 7))
        }
        #expect(most <= 15)
    }
}
