import Primitives
import TestSupport
import Testing

@testable import Backups

@Suite("MD5 of several buffers at once")
struct MD5LanesTests {
    private func bytes(_ count: Int, seed: UInt64) -> [UInt8] {
        var state = seed
        return (0..<count).map { _ in
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return UInt8(truncatingIfNeeded: state >> 33)
        }
    }

    @Test("a buffer of any length has the hash that MD5 has for it alone")
    func lengths() {
        let lanes = MD5Lanes()
        for count in [0, 1, 55, 56, 63, 64, 65, 119, 120, 127, 128, 1_000, 4_096, 20_001] {
            let bytes = bytes(count, seed: UInt64(count))
            bytes.withUnsafeBytes {
                let job = lanes.submit($0)
                #expect(lanes.value(of: job) == MD5.of($0), "\(count) bytes")
                // After the value there is nothing to give up.
                lanes.withdraw(job)
            }
        }
    }

    @Test("threads that need hashes at the same time get their own, and one that gives up keeps nobody")
    func together() {
        let lanes = MD5Lanes()
        let ended = Semaphore()
        let wrong = Guarded(0)
        for thread in 0..<6 {
            startThread("md5") {
                for round in 0..<20 {
                    let bytes = self.bytes(thread * 2_000 + round * 97, seed: UInt64(thread * 100 + round))
                    bytes.withUnsafeBytes {
                        let job = lanes.submit($0)
                        if round % 5 == 4 {
                            lanes.withdraw(job)
                        } else if lanes.value(of: job) != MD5.of($0) {
                            wrong.withLock { $0 += 1 }
                        }
                    }
                }
                ended.post()
            }
        }
        for _ in 0..<6 { ended.wait() }
        #expect(wrong.withLock { $0 } == 0)
    }
}
