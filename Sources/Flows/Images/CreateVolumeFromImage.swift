import BlockStorage
import Database
import DriverHost
import JSON

/// Places a new volume, and makes it with an image in it: as a clone of a volume that holds the image, or empty, to be written to.
enum CreateVolumeFromImage: FlowDefinition {
    typealias Arguments = CreateVolumeFromImageArguments
    typealias State = CreateVolumeFromImageState

    static let cancellation = Cancellation.byProject

    static let steps: [Step<Self>] = [
        place(),
        .onStore(
            "find",
            perform: { run, services in
                try await ImageSources(of: run.arguments.image, run.operation, services).find(for: run.volume())
            },
            record: { run, source, _ in
                switch source {
                case .location(let location): run.state.location = location
                case .volume(let id): run.state.sourceVolumeID = id
                case nil: break
                }
            },
            recordUndo: { run, _ in
                run.state.sourceVolumeID = nil
                run.state.location = nil
            }),
        .onVolume(
            "make",
            perform: { run, volume, backend in
                if let cloned = try await clone(volume, backend, run) { return Made(object: cloned, isWhole: true) }
                return Made(object: try await empty(volume, backend, run), isWhole: false)
            },
            record: { run, made, tx in
                guard let made else { return }
                let volume = try run.volume(in: tx)
                try run.markCreated(volume, made.object, in: tx)
                try Volumes.setStatus(.downloading, of: volume, in: tx)
                run.state.isWhole = made.isWhole
                if !made.isWhole { (run.state.location, run.state.sourceVolumeID) = (nil, nil) }
            },
            undo: remove,
            recordUndo: { run, tx in
                try recordRemoval(&run, tx)
                run.state.isWhole = false
            }),
        .onStore(
            "write",
            perform: { run, services in
                // Of a signed image none is.
                guard !run.state.isWhole else { return false }
                return try await OperationImages(run.operation, services).fetch(run.arguments.image, to: run)
            },
            record: recordImage),
    ]

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        try giveUp(&run, failure, in: tx)
    }

    private struct Made: Sendable {
        let object: CreatedObject
        /// With the image in it.
        let isWhole: Bool
    }

    /// A clone of what holds the image; nil where there is none, or it cannot be cloned: that is no reason to have no volume.
    private static func clone(_ volume: Volume, _ backend: OperationBackend, _ run: FlowRun<Self>) async throws -> CreatedObject? {
        let object = try await run.driverArguments(new: volume)
        let (method, member, source): (DriverMethod, String, DriverValue)
        if let location = run.state.location {
            let image = run.arguments.image
            (method, member) = (.cloneImage, "image")
            source = .members(["id": .string(image.id), "location": .string(location), "bytes": .integer(Int64(image.size))])
        } else if let id = run.state.sourceVolumeID {
            (method, member) = (.cloneVolume, "source")
            source = try await run.driverArguments(run.volume(id))
        } else {
            return nil
        }
        do {
            return CreatedObject(try await backend.call(method, .members(["volume": object, member: source])), on: backend)
        } catch let failure as DriverFailure where failure.code != .cancelled {
            backend.warn("what holds the image cannot be cloned, the image is read: \(failure.message)", method)
            _ = try await backend.call(.deleteVolume, .members(["volume": object]))
            // Recorded before an empty volume is made in its place: a repetition after a death would take that one for the clone.
            var state = run.state
            (state.location, state.sourceVolumeID) = (nil, nil)
            try await run.recordPart { [operation = run.operation, source = run.state.sourceVolumeID, state] tx in
                try Operations.checkpoint(operation.id, state: state, in: tx)
                // Whoever sends the image's data may have to attach it.
                if let source { try Operations.release(source, of: operation, in: tx) }
            }
            return nil
        }
    }
}

/// As the releases before the image cache wrote it into the log.
enum CreateVolumeByReading: FlowDefinition {
    typealias Arguments = CreateVolumeFromImageArguments
    typealias State = PlacedVolumeState

    static let id = FlowID(CreateVolumeFromImageArguments.flow.name, version: 1)
    static let cancellation = Cancellation.byProject

    static let steps: [Step<Self>] = [
        place(),
        .onVolume(
            "make",
            perform: { run, volume, backend in try await empty(volume, backend, run) },
            record: { run, created, tx in
                guard let created else { return }
                let volume = try run.volume(in: tx)
                try run.markCreated(volume, created, in: tx)
                try Volumes.setStatus(.downloading, of: volume, in: tx)
            },
            undo: remove, recordUndo: recordRemoval),
        .onStore(
            "write",
            perform: { run, services in try await OperationImages(run.operation, services).fetch(run.arguments.image, to: run) },
            record: recordImage),
    ]

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        try giveUp(&run, failure, in: tx)
    }
}
