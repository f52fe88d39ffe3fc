import Glibc
import Primitives
import TestSupport

/// The openstack and cinder commands, loaded once for all tests and run in forks (clients/forked.py).
final class LoadedClients: Sendable {
    /// The folder of the commands, to stand first in PATH.
    static let path = Result { try loaded.get().directory }
    private static let loaded = Result { try LoadedClients() }

    /// The virtual environment that the set-up made.
    static var environment: String {
        getenv("CLINKER_CLIENTS").map { String(cString: $0) } ?? ServiceUnderTest.root + "/.clients"
    }

    private let directory: String
    private let program: ServerProgram

    private init() throws {
        directory = temporaryDirectory("clients")
        program = try ServerProgram(
            "the clients", [Self.environment + "/bin/python", ServiceUnderTest.sources + "/clients/forked.py", directory],
            in: directory, ready: "cinder", mode: X_OK, seconds: 60)
    }
}
