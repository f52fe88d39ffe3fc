import Database
import Glibc

/// The names of the types of a page's volumes. A page has few types: each is looked up once, where a join would look for that of each volume.
struct VolumeTypeNames: Sendable {
    private var names: [String] = []
    /// For each row the place of its type's name; empty as long as all rows have the first.
    private var places: [Int] = []

    static let name = SQL("SELECT name FROM volume_types WHERE id = ?")

    init(of rows: Rows, in connection: any Connection) throws {
        var placeOfType: [String: Int] = [:]
        var last = (id: UnsafeBufferPointer<UInt8>(start: nil, count: 0), place: 0)
        var index = 0
        try rows.forEach { row in
            defer { index += 1 }
            let id = row.cells.bytes(Volumes.table.volumeTypeID.position) ?? last.id
            if names.isEmpty || !Self.areEqual(id, last.id) {
                let text = String(decoding: id, as: UTF8.self)
                last = (id, placeOfType[text] ?? names.count)
                if last.place == names.count {
                    placeOfType[text] = last.place
                    names.append(try connection.first(Self.name, .text(text)) { $0.text(0) } ?? "")
                }
                if last.place > 0, places.isEmpty { places = Array(repeating: 0, count: index) }
            }
            if names.count > 1 { places.append(last.place) }
        }
    }

    subscript(_ row: Int) -> String { places.isEmpty ? names[0] : names[places[row]] }

    private static func areEqual(_ one: UnsafeBufferPointer<UInt8>, _ other: UnsafeBufferPointer<UInt8>) -> Bool {
        guard one.count == other.count, let first = one.baseAddress, let second = other.baseAddress else { return one.count == other.count }
        return memcmp(first, second, one.count) == 0
    }
}
