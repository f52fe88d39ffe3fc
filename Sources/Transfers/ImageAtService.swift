import DriverHost
import HTTPClient
import JSON
import Primitives

/// What the image service has of an image, asked where its answer to the image's data was lost or says that it has data already.
enum ImageAtService {
    /// All of its data. `checksum`: their MD5, where the service knows one.
    case whole(size: UInt64, checksum: String?)
    /// Nothing: data may be sent.
    case nothing
    /// It does not say, or the image is none that gets data any more.
    case unknown
}

extension ImageRequests {
    /// Waits until the service is not at work on the image any more, as long as it may be silent otherwise.
    func awaitStored() throws -> ImageAtService {
        let end = Timestamp.monotonic() + Double(order.timeout)
        repeat {
            var request = request("GET", of: "")
            request.timeout = Double(order.timeout)
            switch send(request) {
            case .success(let answer) where answer.status == 200:
                let image = try? JSON(parsing: answer.body)
                switch image?["status"]?.string {
                case "active":
                    return .whole(size: image?["size"]?.integer.flatMap { UInt64(exactly: $0) } ?? 0, checksum: image?["checksum"]?.string)
                case "queued": return .nothing
                case "saving", "uploading", "importing": break
                default: return .unknown
                }
            case .success(let answer) where answer.status == 401: try judge(.success(answer))
            case .success(let answer) where answer.status == 408 || answer.status == 429 || answer.status >= 500: break
            case .success: return .unknown
            case .failure: break
            }
            wait(0.5)
        } while Timestamp.monotonic() < end
        return .unknown
    }
}
