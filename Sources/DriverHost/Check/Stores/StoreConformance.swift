/// A test of one guarantee that `clinker/driver.h` asks of stores.
struct StoreCase: Sendable {
    /// `subject: guarantee`; selects the case on the command line.
    let name: String
    let run: @Sendable (StoreBench) throws -> Void

    init(_ name: String, _ run: @escaping @Sendable (StoreBench) throws -> Void) {
        self.name = name
        self.run = run
    }
}

/// The conformance suite for stores, independent of what they keep objects in.
enum StoreConformance {
    static let cases: [StoreCase] =
        StoreInstanceChecks.cases + StoreLeakChecks.cases + PutChecks.cases + GetChecks.cases + ListChecks.cases + RemoveChecks.cases
        + ObjectNameChecks.cases + WriterChecks.cases + ProtectChecks.cases + ParallelChecks.cases + StoreDeathChecks.cases

    static func attempt(_ found: StoreCase, _ path: String, _ options: DriverValue, _ witness: DriverWitness) -> ConformanceOutcome {
        do {
            let bench = try StoreBench(path: path, options: options, witness: witness)
            do {
                try found.run(bench)
            } catch {
                try? bench.clean()
                throw error
            }
            try bench.clean()
            return .passed
        } catch let skip as CheckBench.Skip {
            return .skipped(skip.reason)
        } catch let failure as DriverFailure where failure.code == .noSpace {
            return .skipped("a limit of the storage: \(failure.message)")
        } catch { return .failed("\(error)") }
    }
}
