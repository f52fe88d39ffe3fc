import Primitives

/// One promise of `clinker/driver.h`, and how to see whether a driver keeps it.
public struct ConformanceCase: Sendable {
    /// `subject: promise`, by which it can be run alone.
    public let name: String
    /// Optional calls without which there is nothing to see.
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

/// What became of a case.
public enum ConformanceOutcome: Sendable, Equatable {
    case passed
    case failed(String)
    /// The driver leaves out what the case is about.
    case skipped(String)
}

/// The conformance suite: what every driver must do, whatever its storage.
public enum Conformance {
    public static let cases: [ConformanceCase] =
        InstanceChecks.cases + LeakChecks.cases + VolumeChecks.cases + NameChecks.cases + SnapshotChecks.cases + CloneChecks.cases
        + AttachingChecks.cases + ManageChecks.cases
        + HandleChecks.cases + RangeChecks.cases + CopyChecks.cases + ChangedChecks.cases + DeathChecks.cases

    /// The case without which no other one has anything to see.
    public static let first = "instance: it opens"

    /// Runs one case in this process, which is there for that alone. What it made is removed afterwards, whatever its outcome.
    public static func run(_ name: String, plugin path: String, options: DriverValue) -> ConformanceOutcome {
        guard let found = cases.first(where: { $0.name == name }) else { return .failed("there is no such case") }
        let before = ProcessState.now()
        let output = StandardOutput()
        let witness = DriverWitness()
        if case .object(let members) = options {
            for member in members where ["password", "secret"].contains(where: { member.name.contains($0) }) {
                if let text = member.value.string { witness.isSecret(text) }
            }
        }
        let outcome = attempt(found, path, options, witness)
        guard case .passed = outcome else { return outcome }
        // What no answer shows.
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
            // A call that a driver's table has may still say so.
            return .skipped(failure.message)
        } catch let failure as DriverFailure where failure.code == .noSpace {
            return .skipped("a limit of the storage: \(failure.message)")
        } catch { return .failed("\(error)") }
    }
}
