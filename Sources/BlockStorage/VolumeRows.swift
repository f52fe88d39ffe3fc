public import Database
import Glibc

/// Volumes as they are shown: their rows, with the columns of `VolumeTable` before the first that no client is shown, their types,
/// and the attachments of all of them.
public struct VolumeRows: Sendable {
    private let rows: Rows
    /// nil: the rows have what is shown of them.
    private let types: ShownTypes?
    private let attachments: [String: [Attachment]]

    /// Most volumes have no attachments, and that is in their row; those of the others are read at once. `areJoined`: the rows were
    /// joined with their types.
    init(_ rows: Rows, areJoined: Bool, in connection: any Connection) throws {
        var attached: [String] = []
        rows.forEach { row in if Self.mayBeAttached(row) { attached.append(row[Volumes.table.id]) } }
        self.rows = rows
        types = areJoined ? nil : try ShownTypes(of: rows, in: connection)
        attachments = attached.isEmpty ? [:] : try Attachments.ofVolumes(attached, in: connection)
    }

    private static let detached = Array(AttachmentStatus.detached.rawValue.utf8)

    private static func mayBeAttached(_ row: CopiedRow) -> Bool {
        guard let state = row.bytes(Volumes.table.attachStatus), let text = state.baseAddress else { return false }
        return state.count != detached.count || memcmp(text, detached, state.count) != 0
    }

    public var count: Int { rows.count }

    /// `type`: nil where the row has it.
    public func forEach(_ body: (_ row: CopiedRow, _ type: ShownType?, _ attachments: [Attachment]) throws -> Void) rethrows {
        var index = 0
        try rows.forEach { row in
            try body(row, types?[index], attachments.isEmpty ? [] : attachments[row[Volumes.table.id]] ?? [])
            index += 1
        }
    }
}

extension Volumes {
    /// A volume that the caller may see, to be shown.
    public static func shown(_ id: String, to caller: Caller, in connection: any Connection) throws -> VolumeRows {
        let rows = try connection.collect(Volume.findStatement, [.text(id)])
        let isVisible = rows.first { Volume.isVisible(to: caller, project: $0[table.projectID], $0[table.migrationStatus]) }
        guard isVisible == true else {
            throw StorageError.volumeNotFound(id)
        }
        return try VolumeRows(rows, areJoined: true, in: connection)
    }
}
