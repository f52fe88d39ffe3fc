import DriverHost
import Testing

@testable import Flows

@Suite("Waiting for a backend that is down")
struct WaitBudgetTests {
    let failure = DriverFailure(.unavailable, "backend one is down")

    @Test("a backend that comes and goes is waited for again: only time that went by counts")
    func flapping() async throws {
        var budget = WaitBudget(seconds: 86_400)
        for _ in 0..<10 { try await budget.wait(after: failure) { _ in true } }
    }

    @Test("it ends, all waits together")
    func end() async throws {
        var budget = WaitBudget(seconds: 0.05)
        var asked: [Double] = []
        await #expect(throws: DriverFailure.self) {
            while true {
                try await budget.wait(after: failure) {
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
        var budget = WaitBudget(seconds: nil)
        for _ in 0..<10 {
            try await budget.wait(after: failure) {
                #expect($0 == 60)
                return false
            }
        }
    }
}
