import Testing

@testable import Primitives

@Suite("Primitives")
struct PrimitivesTests {
    @Test("a text is shortened to whole characters, one that fits is left")
    func shortened() {
        #expect("volume".shortened(to: 6) == "volume")
        #expect("volumes".shortened(to: 6) == "volume…")
        #expect("aé".shortened(to: 2) == "a…" && "aé".shortened(to: 3) == "aé")
        #expect("😀😀".shortened(to: 7) == "😀…" && "😀".shortened(to: 0) == "…")
    }

    @Test("random UUIDs have the form of version 4 and differ")
    func uuids() {
        let ids = (0..<1000).map { _ in UUID.random() }
        #expect(Set(ids).count == 1000)
        for id in ids {
            let bytes = Array(id.utf8)
            #expect(bytes.count == 36 && bytes[14] == UInt8(ascii: "4") && "89ab".utf8.contains(bytes[19]))
            #expect(UUID.isUUIDLike(id))
        }
        #expect(UUID.isUUIDLike("0123456789ABCDEF0123456789abcdef"))
        #expect(!UUID.isUUIDLike("zzz"))
    }

    @Test("times are written and read in one representation")
    func timestamps() {
        #expect(Timestamp.format(seconds: 0, microseconds: 0) == "1970-01-01T00:00:00.000000")
        #expect(Timestamp.format(seconds: 951_827_696, microseconds: 7) == "2000-02-29T12:34:56.000007")
        #expect(Timestamp.format(seconds: 1_795_237_404, microseconds: 626634) == "2026-11-21T05:03:24.626634")
        #expect(Timestamp.parse("2000-02-29T12:34:56") == 951_827_696)
        #expect(Timestamp.parse("2000-02-29T12:34:56.5Z") == 951_827_696.5)
        for bad in ["", "2000", "2000-13-01", "2000-01-01T25:00:00", "2000-01-01T00:00:00.", "yesterday", "2000-01-01T00:00:00+02:00"] {
            #expect(Timestamp.parse(bad) == nil)
        }
        for (text, seconds) in [
            ("1970", 0.0), ("1970-01", 0), ("1970-01-02", 86_400), ("19700102", 86_400), ("1970-1-2", 86_400),
            ("1970-01-01T00:00:01", 1), ("1970-01-01 00:00:01.5Z", 1.5), ("1970-01-01T000001,5", 1.5), ("1970-01-01T02:00:00+02:00", 0),
            ("1970-01-01T00:00:00-0130", 5400), ("1970-01-01T01+01", 0), ("2000-02-29T12:34:56", 951_827_696),
        ] { #expect(Timestamp.read(text) == seconds, "\(text)") }
        for bad in [
            "", "gt", "197", "197001", "1970-", "1970-13", "2020-02-30", "2019-02-29", "1970-01-01T", "1970-01-01T24:00:00",
            "1970-01-01T00:60",
            "1970-01-01T00:00:60", "1970-01-01T00:00:00.", "1970-01-01T00:00:00+2", "1970-01-01T00:00:00Zx", "0000-01-01",
            "9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+01:00", "２０２０",
        ] { #expect(Timestamp.read(bad) == nil, "\(bad)") }
        #expect(Timestamp.now() > "2025-01-01T00:00:00.000000")
    }

    @Test("a secret does not show itself")
    func secrets() {
        let secret = Secret("hunter2")
        #expect("\(secret) \(String(reflecting: secret)) \(String(describing: [secret]))".contains("hunter2") == false)
        #expect(secret.reveal() == "hunter2")
    }

    @Test("a blocking queue hands every element to one consumer, in order, and ends when closed")
    func queue() {
        let queue = BlockingQueue<Int>()
        for value in 0..<10 { queue.append(value) }
        #expect(queue.take(atMost: 3) == [0, 1, 2])
        #expect(queue.next() == 3)
        #expect(queue.take() == Array(4..<10))
        queue.close()
        #expect(queue.take() == nil && queue.next() == nil)
        #expect(queue.append(1) == false)
    }
}
