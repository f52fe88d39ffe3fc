/// A file of a stranger that is looked at.
public protocol ImageFile {
    /// Bytes.
    var size: UInt64 { get }
    /// The bytes from an offset on: fewer, where the file ends before.
    func read(_ count: Int, at offset: UInt64) throws -> [UInt8]
}

extension ImageFile {
    /// Exactly so many bytes.
    func take(_ count: Int, at offset: UInt64, _ what: String) throws -> [UInt8] {
        let bytes = offset < size ? try read(count, at: offset) : []
        guard bytes.count == count else { throw ImageRefusal("the image ends before the end of its \(what): it is truncated") }
        return bytes
    }

    func requireInside(_ offset: UInt64, _ length: UInt64, _ what: String) throws(ImageRefusal) {
        let (end, isTooFar) = offset.addingReportingOverflow(length)
        guard !isTooFar, end <= size else { throw ImageRefusal("the image's \(what) lies behind its end: it is truncated") }
    }
}

/// Numbers of headers, at offsets that this module computes.
extension [UInt8] {
    func big(_ offset: Int, _ bytes: Int) -> UInt64 { self[offset..<(offset + bytes)].reduce(0) { $0 << 8 | UInt64($1) } }
    func little(_ offset: Int, _ bytes: Int) -> UInt64 { self[offset..<(offset + bytes)].reversed().reduce(0) { $0 << 8 | UInt64($1) } }

    /// A GUID in the byte order of Microsoft's formats, as text.
    func guid(_ offset: Int) -> String {
        let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15]
        let digits = Array<Character>("0123456789abcdef")
        return String(order.flatMap { [digits[Int(self[offset + $0] >> 4)], digits[Int(self[offset + $0] & 15)]] })
    }
}

func bytes(ofSectors sectors: UInt64, _ what: String) throws(ImageRefusal) -> UInt64 {
    let (bytes, isTooLarge) = sectors.multipliedReportingOverflow(by: 512)
    guard !isTooLarge else { throw ImageRefusal("the image's \(what) of \(sectors) sectors is absurd") }
    return bytes
}
