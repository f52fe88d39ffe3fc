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

    private let memory: RowMemory
    private let columns: Int
    /// How many there are.
    public let count: Int

    /// Takes over the memory.
    fileprivate init(_ memory: RowMemory, columns: Int, count: Int) {
        self.memory = memory
        self.columns = columns
        self.count = count
    }

    deinit { memory.deallocate() }

    public var isEmpty: Bool { count == 0 }

    /// Calls the closure for each row. The row is the same object each time.
    @inlinable
    public func forEach(_ body: (CopiedRow) throws -> Void) rethrows {
        if isEmpty { return }
        let row = CopiedRow(self, cells(of: 0))
        for index in 0..<count {
            row.move(to: cells(of: index))
            try body(row)
        }
    }

    /// What the closure makes of the first row; nil if there is none.
    public func first<T>(_ body: (CopiedRow) throws -> T) rethrows -> T? { isEmpty ? nil : try body(CopiedRow(self, cells(of: 0))) }

    @usableFromInline
    func cells(of row: Int) -> RowCells {
        RowCells(cells: UnsafePointer(memory.cells + row * columns), bytes: UnsafePointer(memory.bytes), count: columns)
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

    /// A value as the database holds it.
    public enum Content {
        case null
        case integer(Int64)
        case real(Double)
        /// UTF-8.
        case text(UnsafeBufferPointer<UInt8>)
    }

    @inlinable
    public func content(_ column: Int) -> Content {
        let cell = self[column]
        return switch cell.kind {
        case .null: .null
        case .integer: .integer(cell.content)
        case .real: .real(Double(bitPattern: UInt64(bitPattern: cell.content)))
        case .text: .text(UnsafeBufferPointer(start: bytes + Int(cell.content), count: Int(cell.length)))
        }
    }

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
    @exclusivity(unchecked) private final var current: RowCells
    /// The row's values. (A stored property would be checked in other modules all the same.)
    public final var cells: RowCells { current }

    @usableFromInline
    init(_ rows: Rows, _ cells: RowCells) {
        self.rows = rows
        current = cells
    }

    @usableFromInline
    func move(to cells: RowCells) { current = cells }

    public func bytes(_ column: Int) -> UnsafeBufferPointer<UInt8>? { cells.bytes(column) }
    public func integer(_ column: Int) -> Int64 { cells.integer(column) }
    public func real(_ column: Int) -> Double { cells.real(column) }
    public func isNull(_ column: Int) -> Bool { cells.isNull(column) }
}

/// The memory of `Rows`, in one piece: the cells, and behind them the bytes of their texts.
private struct RowMemory {
    let cells: UnsafeMutablePointer<Rows.Cell>
    let bytes: UnsafeMutablePointer<UInt8>
    let cellCapacity: Int
    let byteCapacity: Int

    init(cells: Int, bytes: Int) {
        let size = cells * MemoryLayout<Rows.Cell>.stride
        let base = UnsafeMutableRawPointer.allocate(byteCount: size + bytes, alignment: MemoryLayout<Rows.Cell>.alignment)
        self.cells = base.bindMemory(to: Rows.Cell.self, capacity: cells)
        self.bytes = (base + size).bindMemory(to: UInt8.self, capacity: bytes)
        (cellCapacity, byteCapacity) = (cells, bytes)
    }

    func deallocate() { UnsafeMutableRawPointer(cells).deallocate() }
}

/// Fills `Rows`, cell by cell. It ends with `rows` or with `discard`.
struct RowCopier {
    let columns: Int
    private var memory: RowMemory
    private var byteCount = 0
    private var cellCount = 0

    /// `expected`: rows for which memory is taken at once.
    init(columns: Int, expected: Int) {
        self.columns = columns
        memory = RowMemory(cells: max(columns, 1) * expected, bytes: 1024 * expected)
    }

    func discard() { memory.deallocate() }

    func rows() -> Rows { Rows(memory, columns: columns, count: columns == 0 ? 0 : cellCount / columns) }

    /// Makes room for the cells of one more row.
    mutating func beginRow() {
        if cellCount + columns > memory.cellCapacity {
            grow(cells: max(memory.cellCapacity * 2, cellCount + columns), bytes: memory.byteCapacity)
        }
    }

    mutating func appendNull() { append(Rows.Cell(kind: .null, length: 0, content: 0)) }
    mutating func append(_ value: Int64) { append(Rows.Cell(kind: .integer, length: 0, content: value)) }
    mutating func append(_ value: Double) { append(Rows.Cell(kind: .real, length: 0, content: Int64(bitPattern: value.bitPattern))) }

    mutating func append(_ text: UnsafePointer<UInt8>, count: Int) {
        if byteCount + count > memory.byteCapacity {
            grow(cells: memory.cellCapacity, bytes: max(memory.byteCapacity * 2, byteCount + count))
        }
        (memory.bytes + byteCount).update(from: text, count: count)
        append(Rows.Cell(kind: .text, length: UInt32(count), content: Int64(byteCount)))
        byteCount += count
    }

    private mutating func grow(cells: Int, bytes: Int) {
        let larger = RowMemory(cells: cells, bytes: bytes)
        larger.cells.update(from: memory.cells, count: cellCount)
        larger.bytes.update(from: memory.bytes, count: byteCount)
        memory.deallocate()
        memory = larger
    }

    private mutating func append(_ cell: Rows.Cell) {
        (memory.cells + cellCount).initialize(to: cell)
        cellCount += 1
    }
}
