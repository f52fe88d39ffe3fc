import BlockStorage
import DriverHost
import Primitives
import Testing
import Transfers

@testable import Flows

@Suite("Transfers at once")
struct LimitedTransfersTests {
    /// Transfers that run until the test ends them.
    private final class Held: TransferRunner {
        private struct State {
            var running: [UInt64: UnsafeContinuation<Void, Never>] = [:]
            var begun: [UInt64] = []
            var most = 0
        }
        private let state = Guarded(State())

        /// The limit of its bandwidth names a transfer.
        func run(_ transfer: Transfer) async -> Result<DriverValue, any Error> {
            let number = transfer.start
            await withUnsafeContinuation { continuation in
                state.withLock { state in
                    state.running[number] = continuation
                    state.begun.append(number)
                    state.most = max(state.most, state.running.count)
                }
            }
            return .success(.null)
        }

        /// In the order in which they began.
        var begun: [UInt64] { state.withLock { $0.begun } }
        var running: Set<UInt64> { state.withLock { Set($0.running.keys) } }
        var most: Int { state.withLock { $0.most } }
        func end(_ number: UInt64) { state.withLock { $0.running.removeValue(forKey: number) }?.resume() }
    }

    private let held = Held()

    private static var end: Transfer.End {
        Transfer.End(
            store: Backend.Configuration(
                name: "s", pluginPath: "", options: .object([]), threads: 1, callTimeout: 1, openTimeout: 1, notesDirectory: ""))
    }
    private static var order: BackupOrder { BackupOrder(format: "cinder", backup: BackupOrder.Item()) }
    private static let backup = Transfer.Job.backup(order)
    private static let restore = Transfer.Job.restore(order)
    private static let removal = Transfer.Job.remove(order)
    private static let verification = Transfer.Job.verify(order)

    private typealias Work = Task<Result<DriverValue, any Error>, Never>

    /// Begins a transfer, and returns once it runs or waits.
    private func begin(
        _ job: Transfer.Job, _ number: UInt64, on limited: LimitedTransfers, onWaiting: @escaping @Sendable (Bool) -> Void = { _ in }
    ) async throws -> Work {
        var transfer = Transfer(job, from: Self.end, to: nil)
        transfer.start = number
        transfer.onWaiting = onWaiting
        let known = limited.counts
        let before = known.running + known.waiting + held.begun.count
        let work = Task { [transfer] in await limited.run(transfer) }
        try await until { limited.counts.running + limited.counts.waiting + held.begun.count > before }
        try await until { held.begun.contains(number) || limited.counts.waiting > 0 }
        return work
    }

    private func until(_ isSo: () -> Bool) async throws {
        while !isSo() { try await Task.sleep(nanoseconds: 1_000_000) }
    }

    @Test("no more run at once than there are places for, and all run")
    func limit() async throws {
        let limited = LimitedTransfers(held, limit: 2, backupLimit: nil)
        var work: [Work] = []
        for number in 1...10 { work.append(try await begin(.copy, UInt64(number), on: limited)) }
        for number in 1...10 as ClosedRange<UInt64> {
            try await until { held.running.contains(number) }
            #expect(limited.counts.running <= 2)
            held.end(number)
        }
        for task in work { _ = try await task.value.get() }
        #expect(held.most == 2 && held.begun == Array(1...10))
        #expect(limited.counts == (0, 0))
    }

    @Test("work on backups has a limit of its own, behind which copies do not wait; without one it has that of all")
    func backups() async throws {
        let limited = LimitedTransfers(held, limit: 3, backupLimit: 1)
        var work = [try await begin(Self.backup, 1, on: limited), try await begin(Self.verification, 2, on: limited)]
        work += [try await begin(Self.restore, 3, on: limited), try await begin(.copy, 4, on: limited)]
        try await until { held.running == [1, 4] }
        held.end(1)
        try await until { held.running == [3, 4] }
        held.end(3)
        try await until { held.running == [2, 4] }
        for number in [2, 4] as [UInt64] { held.end(number) }
        for task in work { _ = try await task.value.get() }
        let unlimited = LimitedTransfers(held, limit: 3, backupLimit: nil)
        for number in [5, 6, 7] as [UInt64] { work.append(try await begin(Self.backup, number, on: unlimited)) }
        try await until { held.running == [5, 6, 7] }
        for number in [5, 6, 7] as [UInt64] { held.end(number) }
        for task in work { _ = try await task.value.get() }
    }

    @Test("a restoration is not behind backups, which are not behind ever more restorations")
    func order() async throws {
        let limited = LimitedTransfers(held, limit: 1, backupLimit: 15)
        var work = [try await begin(Self.backup, 1, on: limited)]
        for number in [2, 3] as [UInt64] { work.append(try await begin(Self.backup, number, on: limited)) }
        for number in 11...16 as ClosedRange<UInt64> { work.append(try await begin(Self.restore, number, on: limited)) }
        for _ in 0..<9 {
            try await until { !held.running.isEmpty }
            held.end(try #require(held.running.first))
            let ended = held.begun.count
            try await until { held.running.count == 1 || ended == 9 }
        }
        for task in work { _ = try await task.value.get() }
        #expect(held.begun == [1, 11, 12, 13, 2, 14, 15, 16, 3])
    }

    @Test("what is short does not wait for what lasts, and what serves waits for nothing")
    func short() async throws {
        let limited = LimitedTransfers(held, limit: 1, backupLimit: 1)
        var work = [try await begin(Self.backup, 1, on: limited), try await begin(Self.removal, 2, on: limited)]
        work.append(try await begin(Self.removal, 3, on: limited))
        work.append(try await begin(.serve(Self.order, BackupServePlace(socket: "/s", seconds: 1)), 4, on: limited))
        try await until { held.running == [1, 2, 4] }
        held.end(2)
        try await until { held.running == [1, 3, 4] }
        for number in [1, 3, 4] as [UInt64] { held.end(number) }
        for task in work { _ = try await task.value.get() }
    }

    @Test("one that waits says so, is cancelled while it waits, and takes no place then")
    func cancellation() async throws {
        let limited = LimitedTransfers(held, limit: 1, backupLimit: nil)
        let isWaiting = Guarded(false)
        let first = try await begin(.copy, 1, on: limited)
        let second = try await begin(.copy, 2, on: limited) { value in isWaiting.withLock { $0 = value } }
        let third = try await begin(.copy, 3, on: limited)
        #expect(isWaiting.withLock { $0 } && limited.counts == (1, 2))
        second.cancel()
        let failure = await #expect(throws: DriverFailure.self) { try await second.value.get() }
        #expect(failure?.code == .cancelled && !isWaiting.withLock { $0 })
        held.end(1)
        try await until { held.running == [3] }
        held.end(3)
        for task in [first, third] { _ = try await task.value.get() }
        // One that is cancelled before it could wait, too.
        let fourth = try await begin(.copy, 4, on: limited)
        let early = Task { () -> Result<DriverValue, any Error> in
            while !Task.isCancelled { await Task.yield() }
            return await limited.run(Transfer(.copy, from: Self.end, to: nil))
        }
        early.cancel()
        await #expect(throws: DriverFailure.self) { try await early.value.get() }
        held.end(4)
        _ = try await fourth.value.get()
        #expect(limited.counts == (0, 0) && held.begun == [1, 3, 4])
    }

    @Test("when the service stops, what waits is left for its next start, and nothing begins any more")
    func stop() async throws {
        let limited = LimitedTransfers(held, limit: 1, backupLimit: nil)
        let first = try await begin(.copy, 1, on: limited)
        let second = try await begin(.copy, 2, on: limited)
        limited.stop()
        await #expect(throws: OperationPostponed.self) { try await second.value.get() }
        await #expect(throws: OperationPostponed.self) { try await limited.run(Transfer(.copy, from: Self.end, to: nil)).get() }
        held.end(1)
        _ = try await first.value.get()
        #expect(held.begun == [1])
    }
}
