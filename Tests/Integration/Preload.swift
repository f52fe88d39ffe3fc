import Processes
import TestSupport

/// Libraries that are loaded into the service before its own (`LD_PRELOAD`), so that a library's call fails, lies or takes long.
enum Preload {
    /// The path of the library that `Tests/Integration/preload/NAME.c` is compiled to.
    ///
    /// - Parameter libraries: names of the libraries whose calls it stands before.
    static func library(_ name: String, of libraries: [String] = []) throws -> String {
        let path = temporaryDirectory("preload") + "/\(name).so"
        let status = reap(
            try spawn(
                "/usr/bin/cc",
                ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-o", path]
                    + [ServiceUnderTest.sources + "/preload/\(name).c", "-Wl,--no-as-needed"] + libraries.map { "-l" + $0 } + ["-ldl"],
                descriptors: []))
        guard status == 0 else { throw ServiceUnderTest.Failure("\(name).c does not compile") }
        return path
    }
}
