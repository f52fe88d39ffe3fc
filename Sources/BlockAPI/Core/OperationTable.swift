import Settings

/// The whole API: every resource with what it needs. A new one is one folder, and its line here.
struct OperationTable: Sendable {
    let extensions: [APIExtension]
    /// All operations, with what extensions add to their bodies.
    let operations: [APIOperation]

    init(_ services: BlockAPIServices, _ settings: Settings) {
        let store = Store(
            database: services.database, longReads: services.longReads, pageReads: services.pageReads,
            pageLimit: settings[Options.api.maxLimit], resourceFilters: services.resourceFilters)
        let requests = services.requests
        let outcomes = Outcomes(operations: services.outcomes)
        let guardian = DetachGuard(store: store, attachmentInUse: services.attachmentInUse)
        let images = ImageFinder(glance: services.images)
        let downTime = settings[Options.api.serviceDownTime]
        let resources: [any Resource] = [
            VolumeResource(store: store, requests: requests, images: images),
            VolumeActionResource(
                store: store, requests: requests, outcomes: outcomes, guardian: guardian, images: images, serviceDownTime: downTime),
            SnapshotResource(store: store, requests: requests),
            AttachmentResource(store: store, requests: requests, outcomes: outcomes, guardian: guardian),
            VolumeTypeResource(store: store, requests: requests, defaultType: settings[Options.storage.defaultVolumeType]),
            DefaultTypeResource(store: store, projectExists: services.projectExists),
            ResourceFilterResource(configured: services.resourceFilters),
            ImageMetadataResource(store: store), QoSSpecsResource(store: store), TypeEncryptionResource(store: store),
            VolumeEncryptionResource(store: store),
            VolumeTransferResource(store: store, requests: requests, keyLength: settings[Options.storage.transferKeyLength]),
            BackupResource(
                store: store, requests: requests, serviceDownTime: downTime, place: services.backupPlace, servings: services.servings),
            BackupRepositoryResource(repositories: services.repositories),
            BackupPolicyResource(store: store, mostProtectDays: requests.mostProtectDays, format: services.backupFormat),
            MessageResource(store: store),
            ServiceResource(
                store: store, serviceDownTime: downTime, logs: LogOperations(store: store, levels: services.logLevels)),
            PoolResource(store: store, scheduler: services.scheduler, pools: services.pools),
            QuotaResource(store: store, defaults: requests.quotas),
            HostResource(store: store, serviceDownTime: downTime, pools: services.pools),
            ManageResource(
                store: store, requests: requests,
                manageable: ManageableList(
                    store: store, names: requests.names, serviceDownTime: downTime, inventory: services.inventory,
                    owner: { try requests.owner(of: $0, in: $1) }), serviceDownTime: downTime),
            OperationResource(
                store: store, outcomes: services.outcomes,
                explanation: PlacementExplanation(
                    store: store, requests: requests, images: images, scheduler: services.scheduler, pools: services.pools,
                    snapshotSameHost: settings[Options.storage.snapshotSameHost])),
            EventResource(hub: services.events, tickets: services.tickets, policies: services.policies, standing: services.standing),
            DoctorResource(examination: services.examination), NotificationResource(status: services.notificationStatus),
        ]
        extensions = resources.flatMap(\.extensions)
        var operations =
            resources.flatMap(\.operations) + ExtensionResource(loaded: extensions).operations + extensions.flatMap(\.operations)
        for member in extensions.flatMap(\.bodyMembers) {
            for index in operations.indices where operations[index].name == member.operation {
                for body in operations[index].bodies.indices {
                    operations[index].bodies[body].schema.properties.append((member.name, member.schema))
                }
            }
        }
        self.operations = operations
    }
}
