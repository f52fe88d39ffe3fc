/// The texts that are bound to the statement which runs on a connection. SQLite would copy each of them into memory that it takes and
/// gives back for every run. A statement that ran keeps pointers to texts that are gone; it looks at none of them before it is bound anew.
struct BoundTexts {
    private var base: UnsafeMutablePointer<UInt8>
    private var capacity = 1024
    private var count = 0

    init() { base = .allocate(capacity: capacity) }

    func deallocate() { base.deallocate() }

    /// Forgets the texts of the statement before, and makes room for those of this one.
    mutating func begin(_ values: [Value]) {
        count = 0
        var needed = 0
        for case .text(let text) in values { needed += text.utf8.count }
        guard needed > capacity else { return }
        base.deallocate()
        capacity = needed
        base = .allocate(capacity: capacity)
    }

    /// Keeps one of the texts that `begin` was told of.
    mutating func add(_ text: String) -> UnsafeBufferPointer<UInt8> {
        var text = text
        let place = base + count
        let length = text.withUTF8 { utf8 in
            if let source = utf8.baseAddress { place.update(from: source, count: utf8.count) }
            return utf8.count
        }
        count += length
        return UnsafeBufferPointer(start: place, count: length)
    }
}
