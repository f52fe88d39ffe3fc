import BlockStorage
import Database
import DriverHost
import JSON

/// Who is to be connected.
struct ConnectionRequest: Sendable {
    let connector: JSON
    /// `rw` or `ro`
    let mode: String
}

/// Export and connect: the driver's part of every attachment.
enum ConnectSteps<Flow: FlowDefinition> {
    typealias Run = FlowRun<Flow>

    /// `request` says who is to be connected; `before` runs before the volume is exported; `record` is called with the connection as `run.answer`; `attachmentID` is the attachment
    /// that the connection is for.
    static func all(
        for request: @escaping @Sendable (Run, Volume) async throws -> ConnectionRequest,
        before: @escaping @Sendable (Run, Volume, OperationBackend) async throws -> Void = { _, _, _ in },
        record: @escaping Step<Flow>.Record = { _, _ in }, attachmentID: @escaping @Sendable (Run) -> String?
    ) -> [Step<Flow>] {
        [
            .onVolume(
                "export",
                perform: { run, volume, backend in
                    try await before(run, volume, backend)
                    return try await backend.callIfSupported(.exportVolume, .members(["volume": run.driverArguments(volume)]))
                },
                record: { run, output, tx in
                    if let data = output?["data"]?.string { try Volumes.setDriverData(data, of: run.volume(in: tx), in: tx) }
                },
                undo: { run, volume, backend in
                    guard try await !run.isConnected(volume) else { return }
                    _ = try await backend.callIfSupported(.unexportVolume, .members(["volume": run.driverArguments(volume)]))
                }),
            .onVolume(
                "connect",
                perform: { run, volume, backend in
                    let request = try await request(run, volume)
                    let connection = try await backend.call(
                        .connectVolume,
                        .members([
                            "volume": run.driverArguments(volume), "connector": DriverValue(request.connector),
                            "mode": .string(request.mode),
                        ]))
                    let qos = try await run.read { try QoSSpecs.of(VolumeTypes.get(volume.volumeTypeID, in: $0), in: $0) }
                    return completed(
                        connection, mode: request.mode, qos: qos?.ofHost(size: volume.size), isEncrypted: volume.encryptionKeyID != nil)
                },
                record: { run, connection, tx in
                    run.answer = .object(connection ?? [:])
                    try record(&run, tx)
                },
                undo: { run, volume, backend in
                    let request = try await request(run, volume)
                    try await disconnect(volume, on: backend, connector: request.connector, except: attachmentID(run), run)
                }),
        ]
    }

    /// What os-brick needs, from what the driver gave: Cinder's additions to `data`.
    private static func completed(_ connection: DriverValue, mode: String, qos: JSONObject?, isEncrypted: Bool) -> JSONObject {
        var info = connection.json.object ?? [:]
        var data = info["data"]?.object ?? [:]
        data["qos_specs"] = qos.map { .object($0) } ?? data["qos_specs"] ?? .null
        data["access_mode"] = data["access_mode"] ?? .string(mode)
        data["encrypted"] = data["encrypted"] ?? .bool(isEncrypted)
        data["cacheable"] = data["cacheable"] ?? false
        data["enforce_multipath"] = data["enforce_multipath"] ?? false
        info["data"] = .object(data)
        info["enforce_multipath"] = info["enforce_multipath"] ?? false
        return info
    }

    /// Ends a connection; what other attachments and hosts still need stays. `endsHost`: what the connector's host was told without an
    /// attachment ends, too; of every host, where it names none.
    static func disconnect(
        _ volume: Volume, on backend: OperationBackend, connector: JSON?, except attachmentID: String?, endsHost: Bool = false, _ run: Run
    ) async throws {
        let (attachments, hosts) = try await run.read {
            (try Attachments.ofVolume(volume.id, in: $0), try HostConnections.ofVolume(volume.id, in: $0))
        }
        let remaining = attachments.filter { $0.id != attachmentID }
        let ended = HostConnections.host(of: connector)
        let told = hosts.filter { !endsHost || !(ended.isEmpty || $0.host == ended) }
        let connectors = (remaining.compactMap(\.connector) + told.map(\.connector)).compactMap { try? JSON(parsing: $0.reveal()) }
        var arguments: [DriverValue.Member] = [
            .init("volume", try await run.driverArguments(volume)),
            .init("attachments", .list(connectors.map { .members(["connector": DriverValue($0)]) })),
        ]
        if let connector, connector != .null { arguments.append(.init("connector", DriverValue(connector))) }
        _ = try await backend.callIfSupported(.disconnectVolume, .object(arguments))
        if remaining.isEmpty, told.isEmpty {
            _ = try await backend.callIfSupported(.unexportVolume, .members(["volume": run.driverArguments(volume)]))
        }
    }
}
