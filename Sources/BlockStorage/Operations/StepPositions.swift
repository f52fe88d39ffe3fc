/// The steps of the flows as they were when the log stored positions: for the migration that gives each unfinished operation the name of
/// its step. Never changes: the migration's checksum would.
enum StepPositions {
    private static let flows: [(name: String, version: Int, steps: [String])] = [
        ("volume.create", 1, ["place", "make"]),
        ("volume.delete", 1, ["remove"]),
        ("volume.delete", 2, ["remove snapshots", "remove"]),
        ("volume.extend", 1, ["claim capacity", "grow"]),
        ("volume.connect", 1, ["export", "connect"]),
        ("volume.disconnect", 1, ["disconnect"]),
        ("volume.restore_export", 1, ["export"]),
        ("attachment.connect", 1, ["export", "connect", "keep"]),
        ("attachment.delete", 1, ["disconnect"]),
        ("snapshot.create", 1, ["make"]),
        ("snapshot.delete", 1, ["remove"]),
        ("volume.revert", 1, ["revert"]),
        ("volume.retype", 1, ["place", "make", "copy", "switch", "remove the old", "rename"]),
        ("volume.migrate", 1, ["place", "make", "copy", "switch", "remove the old", "rename"]),
        ("volume.manage", 1, ["measure", "take over"]),
        ("volume.unmanage", 1, ["leave"]),
        ("snapshot.manage", 1, ["take over"]),
        ("snapshot.unmanage", 1, ["leave"]),
    ]

    /// Names the step of every unfinished operation. A position before the first step, where all were taken back, gets no name.
    static let naming =
        "UPDATE operations SET step_name = CASE flow || '/' || version || '/' || step"
        + flows.flatMap { flow in
            flow.steps.enumerated().map { " WHEN '\(flow.name)/\(flow.version)/\($0.offset)' THEN '\($0.element)'" }
        }.joined() + " END WHERE finished_at IS NULL"
}
