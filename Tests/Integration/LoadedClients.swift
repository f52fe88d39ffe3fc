import Glibc
import Primitives
import Processes
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
    private let lifeline: Int32

    private init() throws {
        directory = temporaryDirectory("clients")
        // It ends with the tests, whatever becomes of them: when their end of the pipe is gone.
        let (mine, theirs) = try socketPair()
        lifeline = mine
        defer { close(theirs) }
        let output = open(directory + "/output", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        defer { close(output) }
        let pid = try spawn(
            Self.environment + "/bin/python", [ServiceUnderTest.sources + "/clients/forked.py", directory],
            descriptors: [(source: theirs, target: 0), (source: output, target: 1), (source: output, target: 2)])
        let limit = Timestamp.monotonic() + 60
        while access(directory + "/cinder", X_OK) != 0 {
            var status: Int32 = 0
            guard Timestamp.monotonic() < limit, waitpid(pid, &status, WNOHANG) == 0 else {
                throw ServiceUnderTest.Failure("the clients were not loaded: \((try? ServiceUnderTest.read(directory + "/output")) ?? "")")
            }
            usleep(20_000)
        }
    }
}
