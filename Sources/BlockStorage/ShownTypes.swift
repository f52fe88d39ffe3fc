import Database
import Glibc

/// What a volume shows of its type.
public struct ShownType: Sendable {
    public let name: String
    public let isEncrypted: Bool
}

/// The types of a page's volumes. A page has few types: each is looked up once, where a join would look for that of each volume.
struct ShownTypes: Sendable {
    private var types: [ShownType] = []
    /// For each row the place of its type; empty as long as all rows have the first.
    private var places: [Int] = []

    static let find = SQL("SELECT name, is_encrypted FROM volume_types WHERE id = ?")

    init(of rows: Rows, in connection: any Connection) throws {
        var placeOfType: [String: Int] = [:]
        var last = (id: UnsafeBufferPointer<UInt8>(start: nil, count: 0), place: 0)
        var index = 0
        try rows.forEach { row in
            defer { index += 1 }
            let id = row.cells.bytes(Volumes.table.volumeTypeID.position) ?? last.id
            if types.isEmpty || !Self.areEqual(id, last.id) {
                let text = String(decoding: id, as: UTF8.self)
                last = (id, placeOfType[text] ?? types.count)
                if last.place == types.count {
                    placeOfType[text] = last.place
                    types.append(
                        try connection.first(Self.find, .text(text)) { ShownType(name: $0.text(0), isEncrypted: $0.bool(1)) }
                            ?? ShownType(name: "", isEncrypted: false))
                }
                if last.place > 0, places.isEmpty { places = Array(repeating: 0, count: index) }
            }
            if types.count > 1 { places.append(last.place) }
        }
    }

    subscript(_ row: Int) -> ShownType { places.isEmpty ? types[0] : types[places[row]] }

    private static func areEqual(_ one: UnsafeBufferPointer<UInt8>, _ other: UnsafeBufferPointer<UInt8>) -> Bool {
        guard one.count == other.count, let first = one.baseAddress, let second = other.baseAddress else { return one.count == other.count }
        return memcmp(first, second, one.count) == 0
    }
}
