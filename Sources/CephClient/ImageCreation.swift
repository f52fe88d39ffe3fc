import CDriver
import CRBD
import DriverKit
import Glibc

extension ImageRemoval {
    /// Makes an image that is nobody's clone; succeeds if there is one of that size, and throws EXISTS if there is another.
    ///
    /// - Parameters:
    ///   - size: bytes.
    ///   - create: creates the image, with librbd's result.
    package func makeImage(_ name: String, size: UInt64, _ call: Call, _ create: () throws -> Int32) throws {
        for _ in 0..<2 {
            let result = try create()
            guard result == -EEXIST else { return try Cluster.check(result, "cannot create image \(name)") }
            if let image = try Image.find(cluster, name, writable: false) {
                let found = try image.size
                guard found == size, try image.parent == nil else {
                    throw DriverError(CLINKER_EXISTS, "the image \(name) exists already, with \(found) bytes instead of \(size)")
                }
                return
            }
            // The name exists without an image: the remains of an interrupted creation.
            try remove(name, call)
        }
        throw DriverError(CLINKER_RETRY, "the image \(name) is made by somebody else at the same time")
    }
}
