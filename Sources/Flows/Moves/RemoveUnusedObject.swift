import BlockStorage
import Database
import DriverHost

/// Removes what a move had made on a backend that then could not remove it: as long as it takes, for it is nobody's.
enum RemoveUnusedObject: FlowDefinition {
    typealias Arguments = RemoveUnusedObjectArguments

    static let steps: [Step<Self>] = [
        .onBackend(
            "remove", waitsForBackend: true, host: { $0.arguments.host },
            perform: { run, backend in
                let arguments = run.arguments
                let object = run.driverArguments(
                    objectID: run.operation.resourceID, size: arguments.size, host: arguments.host, data: arguments.data,
                    isConnected: false)
                _ = try await backend.call(.deleteVolume, .members(["volume": object]), wait: nil)
            })
    ]

    /// The doctor lists the object.
    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome { .finished }

    /// Writes the operation into the log, for a move that ends.
    static func begin<Flow: FlowDefinition>(after run: FlowRun<Flow>, host: String, size: Int, in tx: any Transaction) throws
    where Flow.Arguments: MoveArguments, Flow.State == MoveState {
        guard let id = run.arguments.targetID else { return }
        _ = try Operations.create(
            RemoveUnusedObjectArguments(host: host, size: size, data: run.state.data), resourceType: "volume", resourceID: id,
            projectID: run.operation.projectID, caller: .service(requestID: run.operation.requestID), claims: [.exclusive(new: id)],
            in: tx)
    }
}
