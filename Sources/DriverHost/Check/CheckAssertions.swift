import Glibc
import Logging
import Primitives

/// What a case says when a guarantee is broken.
protocol CheckAssertions {}

extension CheckAssertions {
    func require(_ condition: Bool, _ what: @autoclosure () throws -> String) throws {
        if !condition { throw CheckBench.Failure(description: try what()) }
    }

    /// The body must fail with one of the codes.
    func refused(_ codes: [DriverFailure.Code], _ what: String, _ body: () throws -> Void) throws {
        do { try body() } catch let failure as DriverFailure {
            let wanted = codes.map(\.name).joined(separator: " or ")
            return try require(codes.contains(failure.code), "\(what): \(failure.code.name) (\(failure.message)), not \(wanted)")
        }
        throw CheckBench.Failure(description: "\(what) succeeded")
    }
}

/// A driver host for a case.
enum CheckHost {
    /// A directory of the suite, which contains that of the plugin whose options these are.
    static func directory(_ options: DriverValue) -> String {
        guard let own = options["state_dir"]?.string, let slash = own.lastIndex(of: "/"), slash > own.startIndex else { return "/tmp" }
        return String(own[..<slash])
    }

    /// Lends a driver host, which the closure may kill by its PID.
    static func lend<T: Sendable>(
        _ path: String, _ kind: PluginKind, options: DriverValue, in directory: String,
        _ body: @escaping @Sendable (Backend) async throws -> T
    ) throws -> T {
        var configuration = Backend.Configuration(
            name: "check-\(getpid())", pluginPath: path, options: options, threads: 4, callTimeout: 60, openTimeout: 60,
            notesDirectory: directory)
        configuration.kind = kind
        let backend = Backend(configuration, log: Logger(label: "check") { _ in SwiftLogNoOpLogHandler() }, onChange: { _ in })
        backend.start()
        defer { backend.stop() }
        let done = Semaphore()
        let result = Guarded<Result<T, any Error>?>(nil)
        Task {
            let outcome: Result<T, any Error>
            do {
                guard await backend.waitUntilUp(within: 30) else {
                    throw CheckBench.Failure(description: "the driver host did not come up: \(backend.lastError ?? "")")
                }
                outcome = .success(try await body(backend))
            } catch { outcome = .failure(error) }
            result.withLock { $0 = outcome }
            done.post()
        }
        done.wait()
        guard let outcome = result.withLock({ $0 }) else { throw CheckBench.Failure(description: "no outcome") }
        return try outcome.get()
    }
}
