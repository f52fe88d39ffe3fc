import BlockStorage
import Database
import DriverHost

@testable import Flows

/// A Compute service in memory: it attaches the copy that it is to move an instance to before it answers, as Nova does.
final class MemoryCompute: ComputeAccess {
    private let script: Script
    private let database: any Database
    private let requests: VolumeRequests

    static let caller = Caller(userID: "nova", projectID: "service", isAdmin: true, requestID: "req-nova")

    init(_ script: Script, _ database: any Database, _ requests: VolumeRequests) {
        self.script = script
        self.database = database
        self.requests = requests
    }

    func tellExtended(volume: String, instances: [String]) async throws { try script.run("tell of an extension") {} }
    func tellReimaged(volume: String, instances: [String]) async throws {}

    func swap(_ volume: String, for copy: String, ofInstance instance: String) async -> SwapAnswer {
        var isHeard = false
        var answer = SwapAnswer.accepted
        do { try script.run("swap volumes") { isHeard = true } } catch {
            // Of a request that came twice the second is refused.
            let isRefusal = (error as? DriverFailure).map { [.invalid, .hostDied].contains($0.code) } ?? false
            answer = isRefusal ? .refused("\(error)") : .unknown("\(error)")
        }
        guard isHeard else { return answer }
        do {
            _ = try await database.write { [requests] in
                try requests.reserve(volumeID: copy, instanceID: instance, mode: "rw", caller: Self.caller, in: $0)
            }
        } catch { return .refused("the copy cannot be attached: \(error)") }
        return answer
    }
}
