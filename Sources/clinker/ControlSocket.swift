import Glibc
import HTTPClient
import JSON
import Primitives
import Processes
import Settings

/// The API for the operator of this machine, on a Unix socket in the state directory. Who can open it (the service's user and root) is an
/// administrator.
enum ControlSocket {
    /// Socket paths are limited to 107 bytes, so the socket is addressed through `/proc/self/fd` of the open state directory.
    private static func path(_ directory: Int32) -> String { "/proc/self/fd/\(directory)/control" }

    private static func open(_ stateDirectory: String) throws -> Int32 {
        let directory = Glibc.open(stateDirectory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else {
            throw SystemError.last("cannot open \(stateDirectory)")
        }
        return directory
    }

    /// Creates the listening socket; replaces one left by a dead core.
    static func listen(_ stateDirectory: String) throws -> Int32 {
        let directory = try open(stateDirectory)
        defer { close(directory) }
        return try UnixSocket.listen(path(directory), shown: stateDirectory + "/control")
    }

    /// Sends a request to the running service; nil if none is running.
    ///
    /// - Parameter onBody: receives a streamed response piece by piece.
    static func ask(
        _ method: String, _ target: String, _ body: JSON? = nil, stateDirectory: String, seconds: Double = 3600,
        onBody: (@Sendable (UnsafeRawBufferPointer) -> Bool)? = nil
    ) throws -> JSON? {
        let directory = try open(stateDirectory)
        defer { close(directory) }
        var request = HTTPClient.Request(method, "http://localhost" + target)
        request.unixSocket = path(directory)
        request.headers = [(name: "OpenStack-API-Version", value: "volume 3.71")]
        if let body {
            request.headers.append((name: "Content-Type", value: "application/json"))
            request.body = Array(body.text.utf8)
        }
        request.timeout = seconds
        request.limit = 1 << 30
        request.onBody = onBody
        do throws(HTTPClient.Failure) {
            let response = try HTTPClient().send(request)
            let answer = (try? JSON(parsing: response.body, limits: JSONLimits(bytes: request.limit))) ?? .null
            guard response.status < 300 else {
                throw HTTPClient.Failure(
                    description: answer.object?.members.first?.value["message"]?.string ?? "the service answered \(response.status)",
                    isUnreachable: false)
            }
            return answer
        } catch {
            if error.isUnreachable { return nil }
            throw error
        }
    }

    /// The same; throws if no service is running.
    static func command(
        _ options: ConfigurationOptions, _ method: String, _ target: String, _ body: JSON? = nil, seconds: Double = 3600,
        onBody: (@Sendable (UnsafeRawBufferPointer) -> Bool)? = nil
    ) throws -> JSON {
        let directory = try options.existingStateDirectory(options.settings())
        guard let answer = try ask(method, target, body, stateDirectory: directory, seconds: seconds, onBody: onBody) else {
            throw SettingsError(["no service runs with the state directory \(directory): start it with 'clinker serve'"])
        }
        return answer
    }
}
