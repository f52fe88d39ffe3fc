/// The rows of a finished query, copied into memory of their own: what is read of them needs no connection.
public final class Rows: @unchecked Sendable {
    /// A value; of a text its place among the bytes.
    @usableFromInline
    struct Cell {
        @usableFromInline
        enum Kind: UInt8 { case null, integer, real, text }
        @usableFromInline let kind: Kind
        @usableFromInline let length: UInt32
        @usableFromInline let content: Int64

        init(kind: Kind, length: UInt32, content: Int64) {
            self.kind = kind
            self.length = length
            self.content = content
        }
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
    public func forEach(_ body: (CopiedRow) throws -> Void) rethrows {
        if isEmpty { return }
        let row = CopiedRow(self, cells(of: 0))
        for index in 0..<count {
            row.cells = cells(of: index)
            try body(row)
        }
    }

    /// What the closure makes of the first row; nil if there is none.
    public func first<T>(_ body: (CopiedRow) throws -> T) rethrows -> T? { isEmpty ? nil : try body(CopiedRow(self, cells(of: 0))) }

    private func cells(of row: Int) -> RowCells {
        RowCells(cells: UnsafePointer(cells + row * columns), bytes: UnsafePointer(bytes), count: columns)
    }
}

/// The values of one copied row, valid inside the closure that received the row. To read them counts no references.
public struct RowCells {
    @usableFromInline let cells: UnsafePointer<Rows.Cell>
    @usableFromInline let bytes: UnsafePointer<UInt8>
    @usableFromInline let count: Int

    init(cells: UnsafePointer<Rows.Cell>, bytes: UnsafePointer<UInt8>, count: Int) {
        self.cells = cells
        self.bytes = bytes
        self.count = count
    }

    @inlinable
    subscript(_ column: Int) -> Rows.Cell {
        precondition(column >= 0 && column < count, "the query has no such column")
        return cells[column]
    }

    /// UTF-8 of a text, nil for anything else.
    @inlinable
    public func bytes(_ column: Int) -> UnsafeBufferPointer<UInt8>? {
        let cell = self[column]
        guard cell.kind == .text else { return nil }
        return UnsafeBufferPointer(start: bytes + Int(cell.content), count: Int(cell.length))
    }

    /// 0 for anything but an integer.
    @inlinable
    public func integer(_ column: Int) -> Int64 {
        let cell = self[column]
        return cell.kind == .integer ? cell.content : 0
    }

    @inlinable
    public func isNull(_ column: Int) -> Bool { self[column].kind == .null }

    func real(_ column: Int) -> Double {
        let cell = self[column]
        return cell.kind == .real ? Double(bitPattern: UInt64(bitPattern: cell.content)) : Double(integer(column))
    }
}

/// A row of `Rows`.
public final class CopiedRow: Row {
    /// Holds what the cells point to.
    private let rows: Rows
    // One thread has it: a check at each of thousands of accesses could find nothing.
    @exclusivity(unchecked) public fileprivate(set) final var cells: RowCells

    fileprivate init(_ rows: Rows, _ cells: RowCells) {
        self.rows = rows
        self.cells = cells
    }

    public func bytes(_ column: Int) -> UnsafeBufferPointer<UInt8>? { cells.bytes(column) }
    public func integer(_ column: Int) -> Int64 { cells.integer(column) }
    public func real(_ column: Int) -> Double { cells.real(column) }
    public func isNull(_ column: Int) -> Bool { cells.isNull(column) }
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
