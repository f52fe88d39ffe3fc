/// The rows of a finished query, copied into memory of their own: what is read of them needs no connection.
public final class Rows: @unchecked Sendable {
    /// A value; of a text its place among the bytes.
    struct Cell {
        enum Kind: UInt8 { case null, integer, real, text }
        let kind: Kind
        let length: UInt32
        let content: Int64
    }

    // Written only by the query that fills them, before anybody else has them.
    private var bytes: UnsafeMutablePointer<UInt8>
    private var byteCount = 0
    private var byteCapacity: Int
    private var cells: UnsafeMutablePointer<Cell>
    private var cellCount = 0
    private var cellCapacity: Int
    private let columns: Int

    /// `expected`: rows for which memory is taken at once.
    init(columns: Int, expected: Int = 1) {
        self.columns = columns
        cellCapacity = max(columns, 1) * expected
        cells = .allocate(capacity: cellCapacity)
        byteCapacity = 1024 * expected
        bytes = .allocate(capacity: byteCapacity)
    }

    deinit {
        cells.deallocate()
        bytes.deallocate()
    }

    /// How many there are.
    public var count: Int { columns == 0 ? 0 : cellCount / columns }
    public var isEmpty: Bool { cellCount == 0 }

    /// Calls the closure for each row. The row is the same object each time.
    public func forEach(_ body: (any Row) throws -> Void) rethrows {
        if isEmpty { return }
        let row = Copied(self)
        for index in 0..<count {
            row.first = index * columns
            try body(row)
        }
    }

    /// What the closure makes of the first row; nil if there is none.
    public func first<T>(_ body: (any Row) throws -> T) rethrows -> T? { isEmpty ? nil : try body(Copied(self)) }

    // MARK: filling

    func appendNull() { append(Cell(kind: .null, length: 0, content: 0)) }
    func append(_ value: Int64) { append(Cell(kind: .integer, length: 0, content: value)) }
    func append(_ value: Double) { append(Cell(kind: .real, length: 0, content: Int64(bitPattern: value.bitPattern))) }

    func append(_ text: UnsafeBufferPointer<UInt8>) {
        if byteCount + text.count > byteCapacity {
            let capacity = max(byteCapacity * 2, byteCount + text.count)
            let larger = UnsafeMutablePointer<UInt8>.allocate(capacity: capacity)
            larger.update(from: bytes, count: byteCount)
            bytes.deallocate()
            (bytes, byteCapacity) = (larger, capacity)
        }
        if let base = text.baseAddress { (bytes + byteCount).update(from: base, count: text.count) }
        append(Cell(kind: .text, length: UInt32(text.count), content: Int64(byteCount)))
        byteCount += text.count
    }

    private func append(_ cell: Cell) {
        if cellCount == cellCapacity {
            let capacity = cellCapacity * 2
            let larger = UnsafeMutablePointer<Cell>.allocate(capacity: capacity)
            larger.update(from: cells, count: cellCount)
            cells.deallocate()
            (cells, cellCapacity) = (larger, capacity)
        }
        (cells + cellCount).initialize(to: cell)
        cellCount += 1
    }

    /// The row that `first` points to.
    private final class Copied: Row {
        private let rows: Rows
        /// Index of the row's first cell.
        var first = 0

        init(_ rows: Rows) { self.rows = rows }

        private func cell(_ column: Int) -> Cell {
            precondition(column >= 0 && column < rows.columns, "the query has no such column")
            return rows.cells[first + column]
        }

        func bytes(_ column: Int) -> UnsafeBufferPointer<UInt8>? {
            let cell = cell(column)
            guard cell.kind == .text else { return nil }
            return UnsafeBufferPointer(start: rows.bytes + Int(cell.content), count: Int(cell.length))
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
