import Backups
import CDriver
import DriverHost
import Primitives

/// The image of a backup as a device that can only be read. A range that is damaged cannot be read, and a line says what is damaged; all
/// others can.
struct BackupDevice: SharedNBDDevice {
    private let image: any BlockSource
    private let onFault: @Sendable (String) -> Void
    private let told = Guarded<Set<String>>([])
    /// Faults of which each is told once.
    private static let mostTold = 1000

    let alignment: UInt64 = 1
    let preferredSize = 4096
    let maximumSize = 4 << 20
    let clientLimit: UInt32 = 8
    var size: UInt64 { image.size }

    init(_ image: any BlockSource, onFault: @escaping @Sendable (String) -> Void) {
        self.image = image
        self.onFault = onFault
    }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws {
        try faults(at: offset, buffer.count) { try image.read(at: offset, into: buffer) }
    }

    func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws { throw Self.readOnly }
    func zero(offset: UInt64, length: UInt64) throws { throw Self.readOnly }
    func flush() throws {}

    private static let readOnly = DriverFailure(.invalid, "a backup cannot be written to")

    func extents(offset: UInt64, length: UInt64, most: Int) throws -> [Driver.Handle.Extent] {
        let (end, overflows) = offset.addingReportingOverflow(length)
        guard !overflows, end <= size else { throw DriverFailure(.invalid, "a range is not inside the backup") }
        let data = try faults(at: offset, Int(clamping: length)) { try image.data(in: offset..<end) }
        var found: [Driver.Handle.Extent] = []
        var position = offset
        let hole = UInt32(CLINKER_EXTENT_HOLE) | UInt32(CLINKER_EXTENT_ZERO)
        for part in data {
            if part.lowerBound > position { found.append((position, part.lowerBound - position, hole)) }
            found.append((part.lowerBound, UInt64(part.count), UInt32(CLINKER_EXTENT_DATA)))
            position = part.upperBound
            guard found.count < most else { return found }
        }
        if position < end { found.append((position, end - position, hole)) }
        return found
    }

    private func faults<T>(at offset: UInt64, _ count: Int, _ body: () throws -> T) throws -> T {
        do { return try body() } catch {
            let line = "\(count) bytes at \(offset) cannot be read: \(error)"
            // A client tries the same again and again, in parts too.
            let isNew = told.withLock { $0.count < Self.mostTold && $0.insert("\(error)").inserted }
            if isNew { onFault(line) }
            throw DriverFailure(.error, line)
        }
    }
}
