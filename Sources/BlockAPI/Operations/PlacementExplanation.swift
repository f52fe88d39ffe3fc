import BlockStorage
import Database
import HTTPServer
import JSON

/// `/operations/explain`: where a volume would be placed, and why not elsewhere.
struct PlacementExplanation: Resource {
    let store: Store
    let requests: VolumeRequests
    let images: ImageFinder
    let scheduler: Scheduler
    let pools: any PoolReports
    let snapshotSameHost: Bool

    private static let view = View<Scheduler.Placement>(
        "placement", "placements",
        [
            .optionalText("pool") { $0.choice?.host },
            .written("verdicts", .list(.any)) { placement, _, writer in writer.value(placement.verdicts.json) },
        ])

    var operations: [APIOperation] {
        [
            APIOperation(
                "operations:explain", "POST", "/operations/explain", policies: ["clinker:operations_explain"],
                bodies: VolumeBodies.creation, answers: .one(Self.view),
                summary: "Say where a volume would be placed, and why not elsewhere", handler: explain)
        ]
    }

    /// Carries a placement out of a transaction that is undone.
    private struct Explained: Error { let placement: Scheduler.Placement }

    /// Does everything that a creation does up to the scheduler's choice, and undoes it.
    @Sendable private func explain(_ request: APIRequest) async throws -> Scheduler.Placement {
        let new = try await VolumeBodies.newVolume(request, images)
        await pools.waitForReports()
        let instance = await scheduler.instance(new.schedulerHints)
        do {
            try await store.write { tx in
                let id = try requests.create(new, caller: request.caller, in: tx)
                guard let volume = try Volumes.find(id, in: tx), let operation = try Operations.latest(of: id, in: tx) else {
                    throw StorageError.volumeNotFound(id)
                }
                throw Explained(
                    placement: try scheduler.place(
                        new: volume, arguments: CreateVolumeArguments(parsing: operation.arguments), instance: instance, attempted: [],
                        snapshotSameHost: snapshotSameHost, among: pools.usablePools(in: tx), in: tx))
            }
            throw HTTPError(500, "The placement was not explained.")
        } catch let explained as Explained { return explained.placement }
    }
}
