import BlockStorage

/// The flows that this release can carry out.
struct FlowRegistry: Sendable {
    let flows: [any RegisteredFlow]
    private let byID: [FlowID: any RegisteredFlow]

    /// Two flows of one name and version are a mistake of the release: it does not start.
    init(_ flows: [any RegisteredFlow]) {
        var byID: [FlowID: any RegisteredFlow] = [:]
        for flow in flows {
            precondition(byID.updateValue(flow, forKey: flow.id) == nil, "two flows have the name and version \(flow.id)")
        }
        self.flows = flows
        self.byID = byID
    }

    subscript(id: FlowID) -> (any RegisteredFlow)? { byID[id] }

    static let all = FlowRegistry([
        Registered<CreateVolume>(), Registered<DeleteVolume>(), Registered<DeleteVolumeWithoutSnapshots>(), Registered<ForceDeleteVolume>(),
        Registered<OpenVolumeKey>(), Registered<DiscardKey>(), Registered<DeleteKey>(), Registered<ExtendVolume>(),
        Registered<TellExtended>(),
        Registered<ConnectVolume>(), Registered<DisconnectVolume>(), Registered<ConnectAttachment>(), Registered<DeleteAttachment>(),
        Registered<RestoreExport>(),
        Registered<CreateSnapshot>(), Registered<DeleteSnapshot>(), Registered<RevertVolume>(), Registered<ManageSnapshot>(),
        Registered<UnmanageSnapshot>(),
        Registered<RetypeVolume>(), Registered<MigrateVolume>(), Registered<MigrateAttachedVolume>(), Registered<RetypeAttachedVolume>(),
        Registered<FinishMigration>(),
        Registered<RemoveUnusedObject>(),
        Registered<ManageVolume>(), Registered<UnmanageVolume>(),
        Registered<CreateBackup>(), Registered<RemoveBackupSnapshot>(), Registered<DeleteBackup>(), Registered<ForgetBackup>(),
        Registered<RestoreBackup>(), Registered<VerifyBackup>(),
        Registered<CreateVolumeFromImage>(), Registered<CreateVolumeByReading>(), Registered<CreateEncryptedFromImage>(),
        Registered<CacheImage>(), Registered<UploadVolume>(), Registered<UploadAttachedVolume>(),
        Registered<ReimageVolume>(), Registered<ReimageEncryptedVolume>(),
    ])
}

/// A flow whose types are known to itself only.
protocol RegisteredFlow: Sendable {
    var id: FlowID { get }
    var isAwaited: Bool { get }
    var cancellation: Cancellation { get }
    var stepNames: [String] { get }
    /// Stored members of the arguments and of the state, each as `name: form`.
    var storedMembers: (arguments: [String], state: [String]) { get }
    /// Whether the step that an operation stands before cannot be taken back.
    func isPastReturn(_ operation: BlockStorage.Operation) -> Bool
    /// Carries the operation out to its end.
    func run(_ operation: BlockStorage.Operation, interrupted: Bool, _ environment: FlowEnvironment) async throws -> OperationEnd
}

struct Registered<Flow: FlowDefinition>: RegisteredFlow {
    var id: FlowID { Flow.id }
    var isAwaited: Bool { Flow.isAwaited }
    var cancellation: Cancellation { Flow.cancellation }
    var stepNames: [String] { Flow.steps.map(\.name) }
    var storedMembers: (arguments: [String], state: [String]) {
        (Flow.Arguments.members.map { "\($0.name): \($0.kind)" }, Flow.State.members.map { "\($0.name): \($0.kind)" })
    }

    func isPastReturn(_ operation: BlockStorage.Operation) -> Bool {
        operation.step.flatMap { name in Flow.steps.first { $0.name == name } }?.isPastReturn ?? false
    }

    func run(_ operation: BlockStorage.Operation, interrupted: Bool, _ environment: FlowEnvironment) async throws -> OperationEnd {
        var runner = try FlowRunner<Flow>(operation, interrupted: interrupted, environment)
        return try await runner.run()
    }
}
