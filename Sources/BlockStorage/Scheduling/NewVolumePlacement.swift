public import Database
public import JSON
import Primitives

extension Scheduler {
    /// What is known of the instance near which a volume is to be; nil where nobody asks.
    public func instance(_ hints: JSONObject?) async -> InstancePlace? {
        guard let instances, let hint = hints?["local_to_instance"], hint != .null else { return nil }
        guard let id = hint.string, UUID.isUUIDLike(id) else {
            return .unknown(reason: "the hint local_to_instance is no instance's id")
        }
        return await instances.place(ofInstance: id)
    }

    /// Where a new volume goes. What is cloned, or made of a snapshot, goes where its source is; a snapshot's content can be
    /// copied elsewhere where the volume's type or the operator (`snapshotSameHost`) allows.
    public func place(
        new volume: Volume, arguments: CreateVolumeArguments, instance: InstancePlace?, attempted: [String], snapshotSameHost: Bool,
        among pools: [PoolState], in connection: any Connection
    ) throws -> Placement {
        let type = try VolumeTypes.get(volume.volumeTypeID, in: connection)
        var request = PlacementRequest(
            volumeID: volume.id, size: volume.size, zones: arguments.zones,
            extraSpecs: type.extraSpecs, requiredBackend: nil, attempted: attempted)
        request.typeID = type.id
        request.qosSpecs = try QoSSpecs.of(type, in: connection)?.specs ?? [:]
        request.hints = try SchedulerHints(
            arguments.schedulerHints ?? [:], of: arguments.hintsOfAllProjects ? nil : volume.projectID, instance: instance, in: connection)
        let snapshot = try volume.snapshotID.flatMap { try Snapshots.find($0, in: connection) }
        guard let source = volume.sourceVolumeID ?? snapshot?.volumeID else { return place(request, among: pools) }
        request.requiredBackend = try Volumes.find(source, in: connection)?.backend
        let beside = place(request, among: pools)
        guard beside.choice == nil, let snapshot, snapshot.volumeTypeID != type.id || !snapshotSameHost else { return beside }
        request.requiredBackend = nil
        return place(request, among: pools)
    }
}
