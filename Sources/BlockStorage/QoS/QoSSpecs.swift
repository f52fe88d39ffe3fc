public import Database
public import JSON
import Primitives

/// What volumes of the associated types may do in a second, and who keeps them to it.
public struct QoSSpecs: Sendable {
    /// Who keeps volumes to the specs.
    public struct Consumer: Status {
        public let rawValue: String
        public init(rawValue: String) { self.rawValue = rawValue }

        public static let backEnd = Self(rawValue: "back-end"), frontEnd = Self(rawValue: "front-end"), both = Self(rawValue: "both")
        public static let all = [backEnd, frontEnd, both]
    }

    public let id, name: String
    public let consumer: Consumer
    public let specs: JSONObject
    public let createdAt: String
    public let updatedAt: String?

    init(_ row: any Row) throws {
        let t = QoSSpecsTable.table
        id = row[t.id]
        name = row[t.name]
        consumer = row[t.consumer]
        specs = try JSON(parsing: row[t.specs]).object ?? [:]
        createdAt = row[t.createdAt]
        updatedAt = row[t.updatedAt]
    }

    /// Limits that can be said for each GiB of a volume.
    private static let scaled = [
        "read_iops_sec", "read_bytes_sec", "write_iops_sec", "write_bytes_sec", "total_iops_sec", "total_bytes_sec",
    ]

    /// What the host of a volume keeps it to, those limits that are said for each GiB multiplied with its size; nil: nothing. A limit that
    /// is no number stays as it was said.
    public func ofHost(size: Int) -> JSONObject? {
        guard consumer != .backEnd else { return nil }
        var result = specs
        func number(_ key: String) -> Int? { specs[key]?.string.flatMap { Int($0) } }
        for limit in Self.scaled {
            guard let each = number(limit + "_per_gb") else { continue }
            let (product, isOverflow) = each.multipliedReportingOverflow(by: size)
            let least = max(number(limit + "_per_gb_min") ?? 0, isOverflow ? .max : product)
            result[limit] = JSON(min(least, number(limit + "_max") ?? least))
            for suffix in ["_per_gb", "_per_gb_min", "_max"] { result[limit + suffix] = nil }
        }
        return result
    }
}

/// Statements about QoS specs and the types that have them.
extension QoSSpecs {
    static let table = QoSSpecsTable.table
    private static let types = VolumeTypeTable.table

    public static func get(_ id: String, in connection: any Connection) throws -> QoSSpecs {
        guard let found = try connection.first(of: table, table.id(id), map: { try QoSSpecs($0) }) else { throw notFound(id) }
        return found
    }

    static func notFound(_ id: String) -> StorageError { StorageError(.notFound, "No such QoS spec \(id).") }

    /// Those that the type is associated with.
    public static func of(_ type: VolumeType, in connection: any Connection) throws -> QoSSpecs? {
        try type.qosSpecsID.flatMap { id in try connection.first(of: table, table.id(id)) { try QoSSpecs($0) } }
    }

    // MARK: changes

    /// A consumer among the specs is none of them, and nothing is kept of null.
    public static func create(name: String, specs: JSONObject, in tx: any Transaction) throws -> QoSSpecs {
        try check(specs)
        let consumer = try self.consumer(specs["consumer"])
        let specs = JSONObject(specs.members.filter { $0.name != "consumer" && !$0.value.isNull })
        guard try tx.first(of: table, table.name(name), map: { $0[table.id] }) == nil else {
            throw StorageError(.conflict, "QoS Specs \(name) already exists.")
        }
        let id = UUID.random()
        try tx.insert(
            into: table, table.id(id), table.name(name), table.consumer(consumer), table.specs(try specs.stored("specs")),
            table.createdAt(tx.now))
        return try get(id, in: tx)
    }

    /// Adds the specs to those that are there; null only where there is one of the name. A consumer among them is none of them.
    public static func update(_ id: String, with specs: JSONObject, in tx: any Transaction) throws {
        let before = try get(id, in: tx)
        var after = before.specs
        var consumer = before.consumer
        for member in specs.members {
            if member.name == "consumer" {
                consumer = try self.consumer(member.value)
            } else if !member.value.isNull || after[member.name] != nil {
                after[member.name] = member.value
            }
        }
        try set(after, consumer, of: before, in: tx)
    }

    /// Removes specs, all of the keys or none.
    public static func remove(_ keys: [String], from id: String, in tx: any Transaction) throws {
        let before = try get(id, in: tx)
        var after = before.specs
        for key in keys {
            guard before.specs[key] != nil else { throw StorageError(.notFound, "QoS spec \(id) has no spec with key \(key).") }
            after[key] = nil
        }
        try set(after, before.consumer, of: before, in: tx)
    }

    private static func set(_ specs: JSONObject, _ consumer: Consumer, of before: QoSSpecs, in tx: any Transaction) throws {
        try tx.update(
            table, table.id(before.id), set: table.consumer(consumer), table.specs(try specs.stored("specs", before: before.specs)),
            table.updatedAt(tx.now))
    }

    /// `force`: types that have them lose them; else they must be nobody's.
    public static func delete(_ id: String, force: Bool, in tx: any Transaction) throws {
        _ = try get(id, in: tx)
        guard try force || associations(of: id, in: tx).isEmpty else { throw StorageError(.invalid, "Qos specs still in use.") }
        try disassociateAll(from: id, in: tx)
        try tx.delete(from: table, table.id(id))
    }

    private static func consumer(_ value: JSON?) throws(StorageError) -> Consumer {
        guard let value, !value.isNull else { return .backEnd }
        guard let known = Consumer.all.first(where: { $0.rawValue == value.string }) else {
            let names = Consumer.all.map(\.rawValue).joined(separator: ", ")
            throw StorageError(.invalid, "Invalid qos specs: consumer must be one of \(names), not \(value.string ?? value.text).")
        }
        return known
    }

    /// Keys and values have at most 255 characters; a value may be null.
    private static func check(_ specs: JSONObject) throws(StorageError) {
        func check(_ text: String, _ what: String, least: Int) throws(StorageError) {
            let length = text.unicodeScalars.count
            if length < least { throw StorageError.invalidInput("\(what) has \(length) characters, less than \(least).") }
            if length > 255 { throw StorageError.invalidInput("\(what) has \(length) characters, more than 255.") }
            if text.utf8.contains(0) { throw StorageError.invalidInput("\(what) contains a NUL character, which no text may.") }
        }
        for member in specs.members {
            try check(member.name, "Key \"\(member.name)\"", least: 1)
            guard !member.value.isNull else { continue }
            let what = "Value for key \"\(member.name)\""
            guard let text = member.value.string else { throw StorageError.invalidInput("\(what) is not a string or unicode") }
            try check(text, what, least: 0)
        }
    }

    // MARK: associations

    static let associatedSQL = SQL(types.select("WHERE t.qos_specs_id = ? ORDER BY t.created_at, t.id"))
    /// The types that have them.
    public static func associations(of id: String, in connection: any Connection) throws -> [VolumeType] {
        _ = try get(id, in: connection)
        return try connection.rows(associatedSQL, .text(id)) { try VolumeType($0) }
    }

    /// Gives them to a type that has none yet.
    public static func associate(_ id: String, with typeID: String, in tx: any Transaction) throws {
        _ = try get(id, in: tx)
        let type = try VolumeTypes.get(typeID, in: tx)
        if let other = type.qosSpecsID, other != id {
            throw StorageError(.invalid, "Invalid volume type: Type \(typeID) is already associated with another qos specs: \(other)")
        }
        try tx.update(types, types.id(typeID), set: types.qosSpecsID(id), types.updatedAt(tx.now))
    }

    /// Takes them from a type, if it has them.
    public static func disassociate(_ id: String, from typeID: String, in tx: any Transaction) throws {
        _ = try get(id, in: tx)
        _ = try VolumeTypes.get(typeID, in: tx)
        try tx.update(types, types.id(typeID), types.qosSpecsID(id), set: types.qosSpecsID(nil), types.updatedAt(tx.now))
    }

    /// Takes them from every type.
    public static func disassociateAll(from id: String, in tx: any Transaction) throws {
        _ = try get(id, in: tx)
        try tx.update(types, types.qosSpecsID(id), set: types.qosSpecsID(nil), types.updatedAt(tx.now))
    }

    /// Whether a volume in use may get the type `new` for `old`: what its host keeps it to was said when it was connected.
    static func allowRetypeInUse(from old: VolumeType, to new: VolumeType, in connection: any Connection) throws -> Bool {
        if let id = old.qosSpecsID, id == new.qosSpecsID { return true }
        return try [old, new].allSatisfy { try of($0, in: connection).map { $0.consumer == .backEnd } ?? true }
    }
}
