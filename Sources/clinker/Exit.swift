import Glibc
import Primitives
import Settings

/// Ends the program with one line per problem and a status from sysexits.h.
enum Exit {
    static let usage: Int32 = 64
    static let unavailable: Int32 = 69
    static let configuration: Int32 = 78

    static func fail(_ error: any Error, status: Int32 = configuration) -> Never {
        let lines = (error as? SettingsError)?.problems ?? ["\(error)"]
        for line in lines { writeError("clinker: \(line)") }
        exit(status)
    }
}
