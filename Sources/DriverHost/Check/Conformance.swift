import Primitives

/// A test of one guarantee that `clinker/driver.h` asks of volume drivers.
struct ConformanceCase: Sendable {
    /// `subject: guarantee`; selects the case on the command line.
    let name: String
    /// Optional calls that the case needs.
    let needs: [DriverMethod]
    let needsHandles: Bool
    let run: @Sendable (CheckBench) throws -> Void

    init(_ name: String, needs: [DriverMethod] = [], handles: Bool = false, _ run: @escaping @Sendable (CheckBench) throws -> Void) {
        self.name = name
        self.needs = needs
        needsHandles = handles
        self.run = run
    }
}

/// The outcome of a case.
public enum ConformanceOutcome: Sendable, Equatable {
    case passed
    case failed(String)
    /// The driver does not support what the case tests.
    case skipped(String)
}

/// The conformance suite: what every driver must do, independent of its storage.
public enum Conformance {
    static let cases: [ConformanceCase] =
        InstanceChecks.cases + LeakChecks.cases + VolumeChecks.cases + NameChecks.cases + SnapshotChecks.cases + CloneChecks.cases
        + AttachingChecks.cases + ManageChecks.cases
        + HandleChecks.cases + RangeChecks.cases + CopyChecks.cases + ChangedChecks.cases + DeathChecks.cases

    /// The case on which all others depend.
    public static let first = "instance: it opens"

    /// The cases for a kind of plugins.
    public static func names(for kind: PluginKind) -> [String] {
        switch kind {
        case .volume: cases.map(\.name)
        case .store: StoreConformance.cases.map(\.name)
        }
    }

    /// Runs one case in this process, which runs no other. Its objects are removed afterwards, whatever the outcome.
    public static func run(_ name: String, for kind: PluginKind, plugin path: String, options: DriverValue) -> ConformanceOutcome {
        let attempt: (DriverWitness) -> ConformanceOutcome
        switch kind {
        case .volume:
            guard let found = cases.first(where: { $0.name == name }) else { return .failed("there is no such case") }
            attempt = { Self.attempt(found, path, options, $0) }
        case .store:
            guard let found = StoreConformance.cases.first(where: { $0.name == name }) else { return .failed("there is no such case") }
            attempt = { StoreConformance.attempt(found, path, options, $0) }
        }
        let before = ProcessState.now()
        let output = StandardOutput()
        let witness = DriverWitness()
        if case .object(let members) = options {
            for member in members where ["password", "secret"].contains(where: { member.name.contains($0) }) {
                if let text = member.value.string { witness.isSecret(text) }
            }
        }
        let outcome = attempt(witness)
        guard case .passed = outcome else { return outcome }
        // Violations that do not show in results.
        let words = output?.words.map { "the driver wrote to the standard output: '\($0)'" }
        let betrayal = witness.betrayal.map { "a secret stands in what the driver logs: \($0)" }
        let faults = [
            witness.violations.first, betrayal, words, before.difference(to: .now()), ProcessState.remainingChild(),
        ]
        return faults.compactMap(\.self).first.map { .failed($0) } ?? .passed
    }

    private static func attempt(_ found: ConformanceCase, _ path: String, _ options: DriverValue, _ witness: DriverWitness)
        -> ConformanceOutcome
    {
        do {
            let bench = try CheckBench(path: path, options: options, witness: witness)
            for method in found.needs where bench.driver.support(method) == .unsupported {
                return .skipped("the driver has no \(method.rawValue)")
            }
            if found.needsHandles, !bench.hasHandles { return .skipped("the driver has no block handles") }
            do {
                try found.run(bench)
            } catch {
                bench.clean()
                throw error
            }
            try bench.cleanUp()
            return .passed
        } catch let skip as CheckBench.Skip {
            return .skipped(skip.reason)
        } catch let failure as DriverFailure where failure.code == .unsupported && !(found.needs.isEmpty && !found.needsHandles) {
            // A call in the driver's table may still return UNSUPPORTED.
            return .skipped(failure.message)
        } catch let failure as DriverFailure where failure.code == .noSpace {
            return .skipped("a limit of the storage: \(failure.message)")
        } catch { return .failed("\(error)") }
    }
}
