/// The rows of a finished query, copied into memory of their own: what is read of them needs no connection.
public final class Rows: @unchecked Sendable {
    /// A value; of a text its place among the bytes.
    struct Cell {
        enum Kind: UInt8 { case null, integer, real, text }
        let kind: Kind
        let length: UInt32
        let content: Int64
    }

    private let bytes: UnsafeMutablePointer<UInt8>
    private let cells: UnsafeMutablePointer<Cell>
    private let columns: Int
    /// How many there are.
    public let count: Int

    /// Takes over the memory.
    fileprivate init(bytes: UnsafeMutablePointer<UInt8>, cells: UnsafeMutablePointer<Cell>, columns: Int, count: Int) {
        self.bytes = bytes
        self.cells = cells
        self.columns = columns
        self.count = count
    }

    deinit {
        cells.deallocate()
        bytes.deallocate()
    }

    public var isEmpty: Bool { count == 0 }

    /// Calls the closure for each row. The row is the same object each time.
    public func forEach(_ body: (any Row) throws -> Void) rethrows {
        if isEmpty { return }
        let row = Copied(self)
        for index in 0..<count {
            row.cells = UnsafePointer(cells + index * columns)
            try body(row)
        }
    }

    /// What the closure makes of the first row; nil if there is none.
    public func first<T>(_ body: (any Row) throws -> T) rethrows -> T? { isEmpty ? nil : try body(Copied(self)) }

    /// The row that `cells` points to.
    private final class Copied: Row {
        /// What the pointers point into.
        private let rows: Rows
        private let bytes: UnsafePointer<UInt8>
        private let columns: Int
        // One thread has it: a check at each of thousands of accesses could find nothing.
        @exclusivity(unchecked) var cells: UnsafePointer<Cell>

        init(_ rows: Rows) {
            self.rows = rows
            bytes = UnsafePointer(rows.bytes)
            columns = rows.columns
            cells = UnsafePointer(rows.cells)
        }

        private func cell(_ column: Int) -> Cell {
            precondition(column >= 0 && column < columns, "the query has no such column")
            return cells[column]
        }

        func bytes(_ column: Int) -> UnsafeBufferPointer<UInt8>? {
            let cell = cell(column)
            guard cell.kind == .text else { return nil }
            return UnsafeBufferPointer(start: bytes + Int(cell.content), count: Int(cell.length))
        }
        func integer(_ column: Int) -> Int64 {
            let cell = cell(column)
            return cell.kind == .integer ? cell.content : 0
        }
        func real(_ column: Int) -> Double {
            let cell = cell(column)
            return cell.kind == .real ? Double(bitPattern: UInt64(bitPattern: cell.content)) : Double(integer(column))
        }
        func isNull(_ column: Int) -> Bool { cell(column).kind == .null }
    }
}

/// Fills `Rows`, cell by cell. It ends with `rows` or with `discard`.
struct RowCopier {
    let columns: Int
    private var bytes: UnsafeMutablePointer<UInt8>
    private var byteCount = 0
    private var byteCapacity: Int
    private var cells: UnsafeMutablePointer<Rows.Cell>
    private var cellCount = 0
    private var cellCapacity: Int

    /// `expected`: rows for which memory is taken at once.
    init(columns: Int, expected: Int) {
        self.columns = columns
        cellCapacity = max(columns, 1) * expected
        cells = .allocate(capacity: cellCapacity)
        byteCapacity = 1024 * expected
        bytes = .allocate(capacity: byteCapacity)
    }

    func discard() {
        cells.deallocate()
        bytes.deallocate()
    }

    func rows() -> Rows { Rows(bytes: bytes, cells: cells, columns: columns, count: columns == 0 ? 0 : cellCount / columns) }

    /// Makes room for the cells of one more row.
    mutating func beginRow() {
        guard cellCount + columns > cellCapacity else { return }
        let capacity = max(cellCapacity * 2, cellCount + columns)
        let larger = UnsafeMutablePointer<Rows.Cell>.allocate(capacity: capacity)
        larger.update(from: cells, count: cellCount)
        cells.deallocate()
        (cells, cellCapacity) = (larger, capacity)
    }

    mutating func appendNull() { append(Rows.Cell(kind: .null, length: 0, content: 0)) }
    mutating func append(_ value: Int64) { append(Rows.Cell(kind: .integer, length: 0, content: value)) }
    mutating func append(_ value: Double) { append(Rows.Cell(kind: .real, length: 0, content: Int64(bitPattern: value.bitPattern))) }

    mutating func append(_ text: UnsafePointer<UInt8>, count: Int) {
        if byteCount + count > byteCapacity { grow(count) }
        (bytes + byteCount).update(from: text, count: count)
        append(Rows.Cell(kind: .text, length: UInt32(count), content: Int64(byteCount)))
        byteCount += count
    }

    private mutating func grow(_ count: Int) {
        let capacity = max(byteCapacity * 2, byteCount + count)
        let larger = UnsafeMutablePointer<UInt8>.allocate(capacity: capacity)
        larger.update(from: bytes, count: byteCount)
        bytes.deallocate()
        (bytes, byteCapacity) = (larger, capacity)
    }

    private mutating func append(_ cell: Rows.Cell) {
        (cells + cellCount).initialize(to: cell)
        cellCount += 1
    }
}
