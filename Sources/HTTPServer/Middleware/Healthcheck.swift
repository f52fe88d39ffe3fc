import Glibc

/// The checks of `/healthcheck`: those of oslo.middleware by their names.
public struct Healthcheck: Sendable {
    /// A check that an operator can ask for.
    public enum Backend: String, Sendable, CaseIterable {
        case disableByFile = "disable_by_file"
        case disableByFilesPorts = "disable_by_files_ports"
        case enableByFiles = "enable_by_files"
    }

    /// What a check found.
    struct Result: Equatable {
        let isHealthy: Bool
        let reason: String
        var details = ""
    }

    public struct Problem: Error, CustomStringConvertible {
        /// The option of `[healthcheck]` and what it breaks.
        public let description: String
    }

    private let backends: [Backend]
    private let disablingFile: String
    private let portFile: String?
    private let enablingFiles: [String]

    /// - Parameters:
    ///   - backends: names of checks, in the order of the answer.
    ///   - disablingFile: of `disable_by_file`; empty for none.
    ///   - disablingFiles: of `disable_by_files_ports`: `port:path` each.
    ///   - port: the port that is served.
    ///   - enablingFiles: of `enable_by_files`.
    public init(
        backends: [String], disablingFile: String, disablingFiles: [String] = [], port: Int = 0, enablingFiles: [String] = []
    ) throws(Problem) {
        var known: [Backend] = []
        for name in backends {
            guard let backend = Backend(rawValue: name) else {
                let all = Backend.allCases.map(\.rawValue).joined(separator: ", ")
                throw Problem(description: "backends: there is no '\(name)', only \(all)")
            }
            known.append(backend)
        }
        if known.contains(.disableByFile), known.contains(.enableByFiles) {
            throw Problem(description: "backends: disable_by_file and enable_by_files exclude each other")
        }
        var portFile: String?
        for text in disablingFiles {
            let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2, let number = Int(parts[0]), (1...65_535).contains(number), !parts[1].isEmpty else {
                throw Problem(description: "disable_by_file_paths: '\(text)' is no port:path")
            }
            if number == port { portFile = String(parts[1]) }
        }
        self.backends = known
        self.disablingFile = disablingFile
        self.portFile = portFile
        self.enablingFiles = enablingFiles
    }

    func run() -> [Result] { backends.map { run($0) } }

    private func run(_ backend: Backend) -> Result {
        func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }
        switch backend {
        case .disableByFile:
            guard !disablingFile.isEmpty else {
                return Result(isHealthy: true, reason: "OK", details: "No 'disable_by_file_path' configuration value specified")
            }
            guard exists(disablingFile) else {
                return Result(isHealthy: true, reason: "OK", details: "Path '\(disablingFile)' was not found")
            }
            return Result(isHealthy: false, reason: "DISABLED BY FILE", details: "Path '\(disablingFile)' was found")
        case .disableByFilesPorts:
            guard let portFile, exists(portFile) else { return Result(isHealthy: true, reason: "OK") }
            return Result(isHealthy: false, reason: "DISABLED BY FILE")
        case .enableByFiles:
            if let missing = enablingFiles.first(where: { !exists($0) }) {
                return Result(isHealthy: false, reason: "FILE PATH MISSING", details: "File path \(missing) is missing")
            }
            return Result(isHealthy: true, reason: "OK", details: "Specified file paths are available")
        }
    }
}
