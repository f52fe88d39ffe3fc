import BlockStorage
import Database
import DriverHost
import JSON

/// Flows that take over what lies in a backend as volumes, or leave it there.
enum ManageFlows {
    static let all = [manage, unmanage]

    private static func reference(_ context: FlowContext) -> DriverValue { DriverValue(context.operation.arguments["reference"] ?? .null) }

    static let manage = Flow(
        name: FlowName.manageVolume, version: 1,
        steps: [
            Step(
                name: "measure",
                perform: { context, _ in
                    let host = context.operation.arguments["host"]?.string ?? ""
                    let entry = try context.backend(of: host)
                    await context.services.backends.waitForReports { $0 === entry }
                    let listing: DriverValue
                    do { listing = try await context.call(entry, .listVolumes, .object([])) } catch let failure
                        as DriverFailure where failure.code == .unsupported
                    {
                        return .object([])
                    }
                    guard let name = ManagedVolume.name(of: context.operation.arguments["reference"]?.object ?? [:]) else {
                        return .object([])
                    }
                    let objects = (listing["volumes"]?.list ?? []).filter { $0["name"]?.string == name || $0["reference"]?.string == name }
                    guard let found = objects.first else {
                        let problems = listing["problems"]?.list?.compactMap(\.string) ?? []
                        throw DriverFailure(.notFound, "\(host) holds no \(name)" + problems.map { "; \($0)" }.joined())
                    }
                    guard objects.count == 1 else {
                        let references = objects.compactMap { $0["reference"]?.string }.joined(separator: ", ")
                        throw DriverFailure(.invalid, "\(host) holds \(objects.count) objects called \(name): \(references)")
                    }
                    return .members(["size": found["size"] ?? .integer(0)])
                },
                record: { context, progress, output, tx in
                    let volume = try context.volume(in: tx)
                    let asked = context.operation.arguments["host"]?.string ?? ""
                    guard let pool = try context.services.backends.pools(in: tx).first(where: { $0.host == asked || $0.backend == asked })
                    else { throw StorageError(.failed, "\(asked) has reported no such pool.") }
                    let size = Int(output["size"]?.integer ?? 0)
                    if size > 0 {
                        try Quotas.charge(
                            Charge(gigabytes: size), type: volume.typeName, totalSize: size, project: volume.projectID,
                            defaults: context.services.quotas, in: tx)
                    }
                    try Pools.add(pool.host, gigabytes: size, volumes: 1, in: tx)
                    let service = try Services.find(binary: "cinder-volume", host: pool.backend, in: tx)
                    try Volumes.place(volume.id, host: pool.host, serviceID: service?.id, zone: pool.zone, in: tx)
                    try Volumes.resize(volume.id, to: size, status: "managing", in: tx)
                    progress["host"] = .string(pool.host)
                },
                recordUndo: { context, progress, tx in
                    guard let host = progress["host"]?.string, let volume = try Volumes.find(context.volumeID, in: tx) else { return }
                    try Quotas.add(Charge(gigabytes: -volume.size), type: volume.typeName, project: volume.projectID, in: tx)
                    try Pools.add(host, gigabytes: -volume.size, volumes: -1, in: tx)
                    try Volumes.place(volume.id, host: nil, serviceID: nil, zone: volume.availabilityZone, in: tx)
                    try Volumes.resize(volume.id, to: 0, status: "managing", in: tx)
                    progress["host"] = nil
                }),
            Step(
                name: "take over",
                perform: { context, _ in
                    let volume = try await context.volume()
                    return try await context.call(
                        context.backend(of: volume), .manageVolume,
                        .members(["volume": context.describeNew(volume), "reference": reference(context)]))
                },
                record: { context, _, output, tx in
                    let volume = try context.volume(in: tx)
                    let size = Int(output["size"]?.integer ?? Int64(volume.size))
                    if size != volume.size, let host = volume.host {
                        try Quotas.add(
                            Charge(gigabytes: size - volume.size), type: volume.typeName, project: volume.projectID, in: tx)
                        try Pools.add(host, gigabytes: size - volume.size, volumes: 0, in: tx)
                        try Volumes.resize(volume.id, to: size, status: "managing", in: tx)
                    }
                    try context.made(volume, output, in: tx)
                }),
        ],
        failed: { context, _, _, tx in
            try Volumes.setStatus("error_managing", of: context.volumeID, in: tx)
            try context.tell(.createVolume, .createFailed, in: tx)
            return .over
        })

    static let unmanage = Flow(
        name: FlowName.unmanageVolume, version: 1,
        steps: [
            Step(
                name: "leave",
                perform: { context, _ in
                    let volume = try await context.volume()
                    guard volume.host != nil else { return .object([]) }
                    let entry = try context.backend(of: volume)
                    let arguments = DriverValue.members(["volume": try await context.describe(volume)])
                    _ = try await context.callIfServed(entry, .unexportVolume, arguments)
                    return try await context.callIfServed(entry, .unmanageVolume, arguments)
                },
                record: { context, _, _, tx in
                    guard let volume = try Volumes.find(context.volumeID, in: tx) else { return }
                    try context.left(volume.nameID ?? volume.id, "volume", in: tx)
                    try Volumes.erase(volume, in: tx)
                })
        ],
        failed: { context, _, _, tx in
            try Volumes.setStatus("error_unmanaging", of: context.volumeID, in: tx)
            try context.tell(.unmanageVolume, .unknown, in: tx)
            return .over
        })
}

extension FlowContext {
    /// Notes that a storage object stays where it is though nothing is known of it any more: no finding for the doctor.
    func left(_ id: String, _ type: String, in tx: any Transaction) throws {
        try Events.append(
            type + Events.leftSuffix, resourceType: type, resourceID: id, projectID: operation.projectID, operationID: operation.id,
            requestID: operation.requestID, in: tx)
    }
}
