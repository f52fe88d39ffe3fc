import CDriver
public import DriverKit

extension HTTPResponse {
    /// What the answer to a HEAD request says of an object.
    public func object(named name: String) throws -> StoredObject {
        guard let size = header("Content-Length").flatMap({ UInt64($0) }) else {
            throw DriverError(CLINKER_ERROR, "HEAD \(name): the server does not say how large it is")
        }
        return StoredObject(name: name, size: size, modified: header("Last-Modified").flatMap { ServerTime.parse(http: $0) } ?? 0)
    }
}
