@testable import DriverHost

/// What the other end of the wire sends is refused, or means one value only.
enum WireFuzz {
    static func run(_ bytes: UnsafeRawBufferPointer) {
        guard let value = try? DriverValue(decoding: Array(bytes)) else { return }
        var encoded: [UInt8] = []
        value.encode(into: &encoded)
        if encoded != Array(bytes) { violated("two encodings of one value") }
        _ = value.loggable
        _ = value.find("volume.name")?.string
        _ = value.find("a.0.b")?.integer
    }
}
