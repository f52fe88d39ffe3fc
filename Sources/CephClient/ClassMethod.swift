import CRBD
import DriverKit
import Glibc

extension Cluster {
    /// Calls a method of the object class `rbd`, which maintains librbd's lists in the pool; returns nil if the object, or the entry in it,
    /// does not exist. Throws if the answer has more than `limit` bytes.
    package func execute(_ method: String, of object: String, _ input: [UInt8], limit: Int = 4096, ignoring: [Int32] = []) throws
        -> [UInt8]?
    {
        var answer = [CChar](repeating: 0, count: limit)
        let result = input.withUnsafeBytes {
            rados_exec(
                pool, object, "rbd", method, $0.baseAddress?.assumingMemoryBound(to: CChar.self), $0.count, &answer, answer.count)
        }
        if result == -ENOENT || ignoring.contains(result) { return nil }
        try Self.check(result, "cannot \(method) in \(object)")
        return answer.prefix(Int(result)).map { UInt8(bitPattern: $0) }
    }
}

/// Ceph's encoding: little-endian numbers, and texts after a length of four bytes.
package enum CephForm {
    package static func encode(_ text: String) -> [UInt8] { encode(UInt32(text.utf8.count)) + Array(text.utf8) }

    package static func encode(_ number: some FixedWidthInteger) -> [UInt8] { withUnsafeBytes(of: number.littleEndian) { Array($0) } }

    /// A structure of the first version.
    package static func structure(_ members: [UInt8]) -> [UInt8] { [1, 1] + encode(UInt32(members.count)) + members }

    /// Reads one value after the other; nil at the end.
    package struct Reader {
        private var rest: ArraySlice<UInt8>

        package init(_ bytes: some Sequence<UInt8>) { rest = ArraySlice(bytes) }

        private mutating func take(_ count: Int) -> ArraySlice<UInt8>? {
            guard count <= rest.count else { return nil }
            defer { rest = rest.dropFirst(count) }
            return rest.prefix(count)
        }

        package mutating func number<T: FixedWidthInteger & UnsignedInteger>(_ type: T.Type) -> T? {
            take(MemoryLayout<T>.size)?.reversed().reduce(0) { $0 << 8 | T($1) }
        }

        package mutating func text() -> String? {
            number(UInt32.self).flatMap { take(Int($0)) }.map { String(decoding: $0, as: UTF8.self) }
        }

        /// The members of a structure, which follow its version, its oldest compatible version and its length.
        package mutating func structure() -> Reader? {
            guard take(2) != nil else { return nil }
            return number(UInt32.self).flatMap { take(Int($0)) }.map { Reader($0) }
        }
    }
}
