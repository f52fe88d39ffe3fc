public import DriverKit

/// A writer that collects what it is given and sends it in parts, each as large as it says.
public protocol PartWriter: AnyObject, BackupObjectWriter {
    /// What was not sent yet.
    var buffer: [UInt8] { get set }
    /// Bytes of the part that is collected.
    var partSize: Int { get }
    func send(_ part: UnsafeRawBufferPointer) throws
}

extension PartWriter {
    public func write(_ bytes: UnsafeRawBufferPointer) throws {
        var rest = bytes[...]
        while !rest.isEmpty {
            let piece = rest.prefix(partSize - buffer.count)
            buffer.append(contentsOf: piece)
            rest = rest.dropFirst(piece.count)
            if buffer.count >= partSize { try sendBuffer() }
        }
    }

    /// Sends what was collected, if that is less than a part, too.
    public func sendBuffer() throws {
        try buffer.withUnsafeBytes { try send($0) }
        buffer.removeAll(keepingCapacity: true)
    }
}
