import JSON

/// Whatever is read can be written, and read again as the same.
enum JSONFuzz {
    static func run(_ bytes: UnsafeRawBufferPointer) {
        guard let value = try? JSON(parsing: bytes) else { return }
        let text = value.text
        guard let again = try? JSON(parsing: text) else { violated("cannot read what was written: \(text)") }
        // Numbers beyond a double's precision are rounded once.
        if again != value, (try? JSON(parsing: again.text)) != again { violated("not the same again: \(text)") }
    }
}
