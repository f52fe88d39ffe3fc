/// The whole API. A new operation is one declaration in the list of its resource, and its handler.
enum OperationTable {
    static let core: [APIOperation] =
        VolumeOperations.all + VolumeMetadataOperations.all + VolumeActions.core + SnapshotOperations.all
        + SnapshotMetadataOperations.all + AttachmentOperations.all + VolumeTypeOperations.core
        + DefaultTypeOperations.all + ResourceFilters.operations
        + MessageOperations.all + ServiceOperations.core + DiscoveryOperations.all + QuotaOperations.core

    static let extensions: [APIExtension] =
        VolumeExtensions.all + SnapshotOperations.extensions + VolumeTypeOperations.extensions + ServiceOperations.extensions
        + QuotaOperations.extensions
        + HostOperations.extensions + ManageOperations.extensions + OperationOperations.extensions + EventOperations.extensions
        + DoctorOperations.extensions

    /// All operations, with what extensions add to their bodies.
    static func operations(_ extensions: [APIExtension]) -> [APIOperation] {
        var operations = core + extensions.flatMap(\.operations)
        for member in extensions.flatMap(\.bodyMembers) {
            for index in operations.indices where operations[index].name == member.operation {
                for body in operations[index].bodies.indices {
                    operations[index].bodies[body].schema.properties.append((member.name, member.schema))
                }
            }
        }
        return operations
    }
}
