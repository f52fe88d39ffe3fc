import CDriver
import CRBD
import DriverKit
import Glibc

/// The pool's list of names, which librbd keeps beside the images (the object `rbd_directory` of class `rbd`).
enum Directory {
    /// Takes a name off the list that leads nowhere: librbd removes what leads from a name to its image before it removes the
    /// name, and a client that dies in between leaves the name for good.
    static func forget(_ name: String, in cluster: Cluster) throws {
        var size: UInt64 = 0
        var time = time_t()
        let leads = rados_stat(cluster.pool, "rbd_id.\(name)", &size, &time)
        if leads == 0 { return }
        if leads != -ENOENT { try Cluster.check(leads, "cannot look for the image of \(name)") }
        guard let id = try execute("dir_get_id", encode(name), cluster).flatMap({ decode($0) }) else { return }
        // ESTALE: the name leads to another image by now.
        _ = try execute("dir_remove_image", encode(name) + encode(id), cluster, ignoring: [-ESTALE])
    }

    /// What the class's method answers; nil if there is no such name.
    private static func execute(_ method: String, _ input: [UInt8], _ cluster: Cluster, ignoring: [Int32] = []) throws -> [UInt8]? {
        var answer = [CChar](repeating: 0, count: 4096)
        let result = input.withUnsafeBytes {
            rados_exec(
                cluster.pool, "rbd_directory", "rbd", method, $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count, &answer,
                answer.count)
        }
        if result == -ENOENT || ignoring.contains(result) { return nil }
        try Cluster.check(result, "cannot \(method) in the pool's list")
        return answer.prefix(Int(result)).map { UInt8(bitPattern: $0) }
    }

    /// Ceph's form of a string: its length in four bytes, the least first, and its bytes.
    private static func encode(_ text: String) -> [UInt8] {
        let length = UInt32(text.utf8.count).littleEndian
        return withUnsafeBytes(of: length) { Array($0) } + Array(text.utf8)
    }

    private static func decode(_ bytes: [UInt8]) -> String? {
        guard bytes.count >= 4 else { return nil }
        let length = bytes.prefix(4).enumerated().reduce(0) { $0 + Int($1.element) << (8 * $1.offset) }
        return bytes.count >= 4 + length ? String(decoding: bytes[4..<(4 + length)], as: UTF8.self) : nil
    }
}
