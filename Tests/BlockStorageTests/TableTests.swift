import Database
import Testing

@testable import BlockStorage

/// The declared tables are those of the schema.
@Suite("Tables")
struct TableTests {
    private static let tables: [Table] = [
        VolumeTable.table, SnapshotTable.table, AttachmentTable.table, ConnectionTable.table, VolumeTypeTable.table, TypeProjectTable.table,
        DefaultTypeTable.table, OperationLogTable.table, ClaimTable.table, EventTable.table, MessageTable.table, ServiceTable.table,
        PoolTable.table, QoSSpecsTable.table,
        TypeEncryptionTable.table, VolumeTransferTable.table, ImageKeyTable.table, LeftKeyTable.table,
        BackupTable.table, BackupDamageTable.table, BackupScrubTable.table,
        BackupSnapshotRemovalTable.table, NotificationTable.table, ImageCacheTable.table,
        QuotaUsageTable.table, QuotaLimitTable.table,
        QuotaClassTable.table,
        BackupPolicyTable.table, BackupPolicyAssignmentTable.table, BackupPolicyRunTable.table, BackupPolicyItemTable.table,
    ]

    @Test("every table has the columns of the schema, of the same kinds and as nullable", arguments: tables.map(\.tableName))
    func columns(name: String) async throws {
        let storage = try await Storage()
        let table = try #require(Self.tables.first { $0.tableName == name })
        var schema: [String: ColumnStorage] = [:]
        try storage.database.readBlocking { connection in
            try connection.query(text: "SELECT name, type, \"notnull\", pk FROM pragma_table_info(?)", [.text(name)]) { row in
                // A key is never NULL, whether that is said or not.
                schema[row.text(0)] = ColumnStorage(
                    kind: row.text(1) == "TEXT" ? .text : .integer, isNullable: !row.bool(2) && row.int(3) == 0)
                return true
            }
        }
        for column in table.columns where column.sql.hasPrefix(table.tableAlias + ".") {
            let kind: ColumnStorage.Kind = column.storage.kind == .text ? .text : .integer
            let declared = ColumnStorage(kind: kind, isNullable: column.storage.isNullable)
            #expect(schema.removeValue(forKey: column.name) == declared, "\(column.name)")
        }
        #expect(schema.isEmpty, "not declared: \(schema.keys)")
    }

    @Test("every table of the schema is declared")
    func whole() async throws {
        let storage = try await Storage()
        let names = try storage.database.readBlocking {
            try $0.rows(SQL("SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'schema_migrations'")) { $0.text(0) }
        }
        #expect(Set(names) == Set(Self.tables.map(\.tableName)))
    }

    @Test("rows go in and come back by their columns, whatever the order in which these are named")
    func roundTrip() async throws {
        let storage = try await Storage()
        let t = VolumeTypeTable.table
        let found = try await storage.database.write { tx in
            try tx.insert(into: t, t.createdAt(tx.now), t.name("n"), t.extraSpecs("{}"), t.id("i"), t.isPublic(true))
            #expect(try tx.update(t, t.name("n"), t.id("i"), set: t.description("d"), t.isPublic(false)) == 1)
            #expect(try tx.update(t, t.id("other"), set: t.description("x")) == 0)
            return try tx.first(of: t, t.id("i")) { [$0[t.name], $0[t.description] ?? "", "\($0[t.isPublic])", $0[t.updatedAt] ?? "-"] }
        }
        #expect(found == ["n", "d", "false", "-"])
        #expect(try await storage.database.write { try $0.delete(from: t, t.id("i")) } == 1)
    }
}
