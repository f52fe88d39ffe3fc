import DriverHost
import Glibc
import Primitives
import Processes

/// The one way in which qemu-img is found and started: without anything of this process's environment and descriptors but what it is given,
/// under limits, without new rights, and ending with the thread that started it.
struct QemuProgram {
    /// What it may use.
    struct Limits {
        /// Bytes of memory that it may map; 0 for no limit.
        var addressSpace = 1 << 30
        /// Seconds of processor time; 0 for no limit.
        var seconds = 60
        /// Bytes of a file that it writes.
        var fileBytes: UInt64 = 0
    }
    let limits: Limits
    /// What it runs under: a tracer of tests.
    var tracer: [String] = []

    init(_ limits: Limits) { self.limits = limits }

    /// Starts it with words of ours and the descriptors that these name; its input and output are nothing.
    ///
    /// - Parameter errors: where its complaints go; nil: nowhere.
    func start(_ arguments: [String], descriptors: [(source: Int32, target: Int32)], errors: Int32? = nil) throws(DriverFailure) -> pid_t {
        let nothing = open("/dev/null", O_RDWR | O_CLOEXEC)
        defer { if nothing >= 0 { close(nothing) } }
        let words =
            tracer + [try Self.path("setpriv"), "--pdeathsig", "KILL", "--no-new-privs", try Self.path("prlimit")] + options
            + [try Self.path("qemu-img")] + arguments
        do throws(SystemError) {
            return try spawn(
                words[0], Array(words.dropFirst()),
                descriptors: [(source: nothing, target: 0), (source: nothing, target: 1), (source: errors ?? nothing, target: 2)]
                    + descriptors, environment: ["PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "MALLOC_ARENA_MAX=4"])
        } catch { throw DriverFailure(.badConfiguration, "qemu-img cannot be started: \(error)") }
    }

    private var options: [String] {
        (limits.addressSpace > 0 ? ["--as=\(limits.addressSpace)"] : [])
            + (limits.seconds > 0 ? ["--cpu=\(limits.seconds):\(limits.seconds + 1)"] : [])
            + ["--core=0", "--fsize=\(limits.fileBytes)", "--nofile=64"]
    }

    /// Where a program lies: in a directory of the service's `PATH`.
    private static func path(_ program: String) throws(DriverFailure) -> String {
        let places = (getenv("PATH").map { String(cString: $0) } ?? "/usr/bin:/bin").split(separator: ":")
        for place in places where place.hasPrefix("/") && access("\(place)/\(program)", X_OK) == 0 { return "\(place)/\(program)" }
        throw DriverFailure(.badConfiguration, "\(program) is not installed: images and encrypted volumes need it and qemu-img")
    }
}
