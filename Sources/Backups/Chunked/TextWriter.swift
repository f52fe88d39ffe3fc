/// Writes text of any size to an object of the store through a buffer.
final class TextWriter {
    private let output: any ObjectWriter
    private var buffer: [UInt8] = []
    private static let size = 1 << 18

    init(_ output: any ObjectWriter) {
        self.output = output
        buffer.reserveCapacity(Self.size + 4096)
    }

    func append(_ text: String) throws {
        buffer.append(contentsOf: text.utf8)
        if buffer.count >= Self.size { try drain() }
    }

    /// Appends what `body` writes, exactly so many bytes.
    func append(_ count: Int, _ body: (UnsafeMutablePointer<UInt8>) -> Void) throws {
        let start = buffer.count
        buffer.append(contentsOf: repeatElement(0, count: count))
        buffer.withUnsafeMutableBufferPointer { body($0.baseAddress! + start) }
        if buffer.count >= Self.size { try drain() }
    }

    private func drain() throws {
        try buffer.withUnsafeBytes { bytes in try output.append(bytes) }
        buffer.removeAll(keepingCapacity: true)
    }

    func commit() throws {
        try drain()
        try output.commit()
    }

    func abandon() { output.abandon() }
}
