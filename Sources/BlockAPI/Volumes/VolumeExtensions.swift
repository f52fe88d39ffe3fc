import BlockStorage
import JSON

/// Extensions of volumes: fields, hints, actions.
enum VolumeExtensions {
    static let all: [APIExtension] = [
        APIExtension(
            alias: "os-vol-tenant-attr", name: "VolumeTenantAttribute", description: "Show the volume's project.",
            updated: "2011-11-03T00:00:00+00:00",
            volumeFields: { source, request, writer in
                if request.allows("volume_extension:volume_tenant_attribute") {
                    writer.member("os-vol-tenant-attr:tenant_id", source.row.bytes(.projectID))
                }
            }),
        APIExtension(
            alias: "os-vol-mig-status-attr", name: "VolumeMigStatusAttribute", description: "Show the state of a volume's migration.",
            updated: "2013-08-08T00:00:00+00:00",
            volumeFields: { source, request, writer in
                if request.allows("volume_extension:volume_mig_status_attribute") {
                    writer.member("os-vol-mig-status-attr:migstat", source.row.bytes(.migrationStatus))
                    writer.member("os-vol-mig-status-attr:name_id", source.row.bytes(.nameID))
                }
            }),
        APIExtension(
            alias: "os-vol-host-attr", name: "VolumeHostAttribute", description: "Show the backend and pool of a volume.",
            updated: "2011-11-03T00:00:00+00:00",
            volumeFields: { source, request, writer in
                if request.allows("volume_extension:volume_host_attribute") {
                    writer.member("os-vol-host-attr:host", source.row.bytes(.host))
                }
            }),
        APIExtension(
            alias: "OS-SCH-HNT", name: "SchedulerHints", description: "Pass hints to the scheduler when a volume is created.",
            updated: "2013-04-18T00:00:00+00:00",
            bodyMembers: ["volumes:create", "operations:explain"].map {
                (operation: $0, name: "OS-SCH-HNT:scheduler_hints", schema: Schema(kinds: [.object, .null]))
            }),
        APIExtension(
            alias: "os-volume-actions", name: "VolumeActions", description: "Actions of volumes: attach, detach, extend and others.",
            updated: "2012-05-31T00:00:00+00:00", operations: VolumeActions.volumeActions),
        APIExtension(
            alias: "os-admin-actions", name: "AdminActions", description: "Actions of administrators.",
            updated: "2012-08-25T00:00:00+00:00",
            operations: VolumeActions.adminActions),
    ]
}
