import DriverHost
import Testing

@testable import Flows

@Suite("Patience with a backend that is down")
struct PatienceTests {
    let failure = DriverFailure(.unavailable, "backend one is down")

    @Test("a backend that comes and goes is waited for again: only time that went by counts")
    func flapping() async throws {
        var patience = Patience(seconds: 60)
        for _ in 0..<10 { try await patience.wait(after: failure) { _ in true } }
    }

    @Test("it ends, all waits together")
    func end() async throws {
        var patience = Patience(seconds: 0.05)
        var asked: [Double] = []
        await #expect(throws: DriverFailure.self) {
            while true {
                try await patience.wait(after: failure) {
                    asked.append($0)
                    try? await Task.sleep(nanoseconds: 30_000_000)
                    return false
                }
            }
        }
        #expect(asked.count <= 2 && asked[0] == 0.05 && asked.allSatisfy { $0 <= 0.05 })
    }

    @Test("without a limit it never ends, and looks again every minute")
    func unlimited() async throws {
        var patience = Patience(seconds: nil)
        for _ in 0..<10 {
            try await patience.wait(after: failure) {
                #expect($0 == 60)
                return false
            }
        }
    }
}
