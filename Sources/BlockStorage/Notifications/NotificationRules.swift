/// What of a flow, or of a change that is made at once, others are notified of: Cinder's names.
struct NotificationRule: Sendable {
    /// What the payload describes.
    enum Subject: Sendable {
        case volume, snapshot, backup

        /// The first word of the publisher's name.
        var service: String {
            switch self {
            case .volume: "volume"
            case .snapshot: "snapshot"
            case .backup: "backup"
            }
        }
    }

    let subject: Subject
    /// `volume.create` of `volume.create.start` and `volume.create.end`.
    let name: String
    /// The member of the flow's arguments that has the subject's id; nil: it is the operation's resource.
    var member: String?
    /// The step after which `start` is sent; nil: the flow's acceptance.
    var startsAfter: String?
    /// Which ends of it are sent.
    var ends = Ends.both
    /// The subject is gone when it ends.
    var removes = false
    /// Cinder's name of the scheduler's part: what is sent where no place was found.
    var scheduling: String?

    enum Ends: Sendable { case both, start, end, nameAlone, nothing }

    var start: String? { ends == .both || ends == .start ? name + ".start" : nil }
    var end: String? {
        switch ends {
        case .both, .end: name + ".end"
        case .nameAlone: name
        case .start, .nothing: nil
        }
    }

    // MARK: what is declared

    /// By the flow's name.
    static let ofFlows: [String: [NotificationRule]] = [
        "volume.create": [NotificationRule(subject: .volume, name: "volume.create", startsAfter: "place", scheduling: "create_volume")],
        "volume.create_from_image": [
            NotificationRule(subject: .volume, name: "volume.create", startsAfter: "place", scheduling: "create_volume")
        ],
        "volume.create_encrypted_from_image": [
            NotificationRule(subject: .volume, name: "volume.create", startsAfter: "place", scheduling: "create_volume")
        ],
        "volume.delete": [NotificationRule(subject: .volume, name: "volume.delete", removes: true)],
        "volume.force_delete": [NotificationRule(subject: .volume, name: "volume.delete", removes: true)],
        "volume.unmanage": [NotificationRule(subject: .volume, name: "volume.unmanage", removes: true)],
        "volume.extend": [NotificationRule(subject: .volume, name: "volume.resize")],
        "volume.retype": [NotificationRule(subject: .volume, name: "volume.retype", ends: .nameAlone, scheduling: "retype")],
        "volume.retype_attached": [
            NotificationRule(subject: .volume, name: "volume.retype", ends: .nameAlone, scheduling: "retype")
        ],
        "volume.migrate": [
            NotificationRule(subject: .volume, name: "volume.migrate", ends: .nothing, scheduling: "migrate_volume_to_host")
        ],
        "volume.migrate_attached": [
            NotificationRule(subject: .volume, name: "volume.migrate", ends: .nothing, scheduling: "migrate_volume_to_host")
        ],
        "volume.manage": [NotificationRule(subject: .volume, name: "volume.manage_existing")],
        "volume.revert": [
            NotificationRule(subject: .volume, name: "volume.revert"),
            NotificationRule(subject: .snapshot, name: "snapshot.revert", member: "snapshot_id"),
        ],
        "snapshot.create": [NotificationRule(subject: .snapshot, name: "snapshot.create", member: "snapshot_id")],
        "snapshot.delete": [NotificationRule(subject: .snapshot, name: "snapshot.delete", member: "snapshot_id", removes: true)],
        "snapshot.unmanage": [NotificationRule(subject: .snapshot, name: "snapshot.delete", member: "snapshot_id", removes: true)],
        "snapshot.manage": [NotificationRule(subject: .snapshot, name: "snapshot.manage_existing_snapshot", member: "snapshot_id")],
        "backup.create": [NotificationRule(subject: .backup, name: "backup.create")],
        "backup.delete": [NotificationRule(subject: .backup, name: "backup.delete", removes: true)],
        "backup.restore": [NotificationRule(subject: .backup, name: "backup.restore", member: "backup_id")],
        "attachment.connect": [NotificationRule(subject: .volume, name: "volume.attach", ends: .start)],
        "attachment.delete": [NotificationRule(subject: .volume, name: "volume.detach")],
    ]

    /// By the kind of the event in the history; both ends are sent at once.
    static let ofEvents: [String: NotificationRule] = [
        "volume.delete": NotificationRule(subject: .volume, name: "volume.delete"),
        "volume.attach": NotificationRule(subject: .volume, name: "volume.attach"),
        "volume.detach": NotificationRule(subject: .volume, name: "volume.detach"),
        "volume.reset_status": NotificationRule(subject: .volume, name: "volume.reset_status"),
        "volume.transfer.create": NotificationRule(subject: .volume, name: "volume.transfer.create"),
        "volume.transfer.delete": NotificationRule(subject: .volume, name: "volume.transfer.delete"),
        "attachment.complete": NotificationRule(subject: .volume, name: "volume.attach", ends: .end),
        "attachment.delete": NotificationRule(subject: .volume, name: "volume.detach"),
        "backup.reset_status": NotificationRule(subject: .backup, name: "backup.reset_status"),
    ]
}
