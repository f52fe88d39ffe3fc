import BlockStorage
import Database

/// Of a flow that places a new volume.
protocol NewVolumeState: PlacementState {
    /// The pool of which capacity is claimed.
    var host: String? { get set }
    /// Backends that were placed on and failed, as `node@backend`.
    var attempted: [String] { get set }
}

extension CreateVolumeState: NewVolumeState {}
extension CreateVolumeFromImageState: NewVolumeState {}
extension PlacedVolumeState: NewVolumeState {}

extension FlowRun where Flow.State: NewVolumeState {
    /// Chooses a pool for the operation's new volume, which is to be made as the arguments say, claims its capacity and records it.
    mutating func placeNewVolume(
        as arguments: CreateVolumeArguments, _ instance: InstancePlace?, _ pools: PoolChooser, in tx: any Transaction
    ) throws {
        let volume = try volume(in: tx)
        let placement = try pools.scheduler.place(
            new: volume.value, arguments: arguments, instance: instance, attempted: state.attempted,
            snapshotSameHost: settings.snapshotSameHost, among: pools.usablePools(in: tx), in: tx)
        let pool = try pools.claim(placement, gigabytes: volume.size, volumes: 1, in: tx)
        let serviceID = try Services.id(ofBackend: pool.backend, in: tx)
        try Volumes.place(volume, host: pool.host, serviceID: serviceID, zone: pool.zone, in: tx)
        state.host = pool.host
    }

    /// Gives the capacity back, and remembers that the backend was tried.
    mutating func takeBackPlacement(in tx: any Transaction) throws {
        guard let host = state.host, let volume = try Volumes.lock(volumeID, in: tx) else { return }
        try Pools.add(host, gigabytes: -volume.size, volumes: -1, in: tx)
        try Volumes.place(volume, host: nil, serviceID: nil, zone: volume.availabilityZone, in: tx)
        state.host = nil
        state.attempted.append(HostName.backend(of: host))
    }
}
