/// One numbered change of the schema. Published migrations never change: their checksum is stored and compared.
public struct Migration: Sendable {
    public let number: Int
    public let name: String
    public let statements: [String]

    public init(_ number: Int, _ name: String, _ statements: [String]) {
        self.number = number
        self.name = name
        self.statements = statements
    }

    /// FNV-1a, 64 bits, of the statements: it guards against accidents, not against attackers.
    public var checksum: String {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for statement in statements {
            for byte in statement.utf8 {
                hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3
            }
            hash = (hash ^ 0xFF) &* 0x100_0000_01b3
        }
        return String(hash, radix: 16)
    }

    static func apply(_ migrations: [Migration], in transaction: any Transaction) throws {
        try transaction.run(
            text: """
                CREATE TABLE IF NOT EXISTS schema_migrations (
                    number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at TEXT NOT NULL)
                """, [])
        var applied: [Int: (name: String, checksum: String)] = [:]
        try transaction.query(text: "SELECT number, name, checksum FROM schema_migrations", []) {
            applied[$0.int(0)] = ($0.text(1), $0.text(2))
            return true
        }
        let latest = migrations.map(\.number).max() ?? 0
        if let later = applied.keys.max(), later > latest {
            throw DatabaseError(
                kind: .unusable,
                message: "the database is at schema \(later), this release knows \(latest): it was used by a later release; "
                    + "run that release, or restore a backup taken before the upgrade")
        }
        for migration in migrations.sorted(by: { $0.number < $1.number }) {
            if let known = applied[migration.number] {
                guard known.checksum == migration.checksum else {
                    throw DatabaseError(
                        kind: .unusable,
                        message:
                            "migration \(migration.number) (\(known.name)) was applied in another form: the database does not belong to this release"
                    )
                }
                continue
            }
            for statement in migration.statements { try transaction.run(text: statement, []) }
            try transaction.run(
                text: "INSERT INTO schema_migrations (number, name, checksum, applied_at) VALUES (?, ?, ?, ?)",
                [.int(migration.number), .text(migration.name), .text(migration.checksum), .text(transaction.now)])
        }
    }
}
