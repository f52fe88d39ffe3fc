import CDriver
import Glibc
import Primitives

/// The repeat rule: a process may die at any instant, and the same call by the next one succeeds.
enum DeathChecks {
    /// A call and its preparation.
    private struct Act: Sendable {
        let name: String
        let method: DriverMethod
        var needs: [DriverMethod] = []
        /// Prepares the call; returns its arguments and a check of its result.
        let prepare: @Sendable (CheckBench) throws -> (arguments: DriverValue, verify: @Sendable (CheckBench) throws -> Void)
    }

    private static func listed(_ bench: CheckBench, _ name: String, _ isThere: Bool) throws {
        guard let names = try bench.names() else { return }
        try bench.require(names.contains(name) == isThere, isThere ? "\(name) is not there" : "\(name) is still there")
    }

    private static func text(_ bench: CheckBench, _ text: String, to volume: CheckBench.Object) throws {
        if bench.hasHandles { try bench.write(text, to: volume) }
    }

    /// Data that takes a moment to copy, so that a copy can be killed half-way.
    private static let bulk = CheckBench.pattern(8 << 20, seed: 77)

    private static func fill(_ bench: CheckBench, _ volume: CheckBench.Object) throws {
        guard bench.hasHandles else { return }
        try bench.handle(volume, writable: true) { handle in
            try CheckBench.write(bulk, handle, at: 64 << 20)
            try handle.flush()
        }
    }

    private static func seeFilled(_ bench: CheckBench, _ volume: CheckBench.Object) throws {
        guard bench.hasHandles else { return }
        let found = try bench.handle(volume) { try CheckBench.read(bulk.count, $0, at: 64 << 20) }
        try bench.require(CheckBench.same(found, bulk), "after the repetition: half of a copy")
    }

    private static func see(_ bench: CheckBench, _ text: String, in volume: CheckBench.Object) throws {
        if bench.hasHandles { try bench.expect(text, in: volume, "after the repetition") }
    }

    private static let acts: [Act] = [
        Act(name: "create", method: .createVolume) { bench in
            let volume = CheckBench.Object()
            bench.remember(volume)
            return (bench.arguments(volume), { try listed($0, volume.name, true) })
        },
        Act(name: "delete", method: .deleteVolume) { bench in
            let volume = try bench.volume()
            return (bench.arguments(volume), { try listed($0, volume.name, false) })
        },
        Act(name: "extend", method: .extendVolume, needs: [.extendVolume]) { bench in
            let volume = try bench.volume()
            try text(bench, "kept", to: volume)
            return (
                bench.arguments(volume, [("new_size", .integer(2)), ("attached", .boolean(false))]), { try see($0, "kept", in: volume) }
            )
        },
        Act(name: "clone", method: .cloneVolume, needs: [.cloneVolume]) { bench in
            let source = try bench.volume()
            try text(bench, "source", to: source)
            try fill(bench, source)
            let clone = CheckBench.Object()
            bench.remember(clone)
            return (
                bench.arguments(clone, [("source", bench.describe(source))]),
                {
                    try see($0, "source", in: clone)
                    try seeFilled($0, clone)
                    try see($0, "source", in: source)
                }
            )
        },
        Act(name: "snapshot", method: .createSnapshot, needs: [.createSnapshot]) { bench in
            let volume = try bench.volume()
            let snapshot = CheckBench.Object(isSnapshot: true)
            bench.remember(snapshot, of: volume)
            return (bench.arguments(volume, [("snapshot", bench.describe(snapshot))]), { try listed($0, snapshot.name, true) })
        },
        Act(name: "delete snapshot", method: .deleteSnapshot, needs: [.createSnapshot, .deleteSnapshot]) { bench in
            let volume = try bench.volume()
            let snapshot = try bench.snapshot(of: volume)
            return (bench.arguments(volume, [("snapshot", bench.describe(snapshot))]), { try listed($0, snapshot.name, false) })
        },
        Act(name: "volume from snapshot", method: .createVolumeFromSnapshot, needs: [.createSnapshot, .createVolumeFromSnapshot]) { bench in
            let source = try bench.volume()
            try text(bench, "then", to: source)
            let snapshot = try bench.snapshot(of: source)
            let made = CheckBench.Object()
            bench.remember(made)
            return (
                bench.arguments(made, [("snapshot", bench.describe(snapshot)), ("source", bench.describe(source))]),
                { try see($0, "then", in: made) }
            )
        },
        Act(name: "revert", method: .revertToSnapshot, needs: [.createSnapshot, .revertToSnapshot]) { bench in
            let volume = try bench.volume()
            try text(bench, "then", to: volume)
            let snapshot = try bench.snapshot(of: volume)
            try text(bench, "now", to: volume)
            return (bench.arguments(volume, [("snapshot", bench.describe(snapshot))]), { try see($0, "then", in: volume) })
        },
        Act(name: "export", method: .exportVolume, needs: [.exportVolume]) { bench in
            (bench.arguments(try bench.volume()), { _ in })
        },
        Act(name: "unexport", method: .unexportVolume, needs: [.unexportVolume]) { bench in
            (bench.arguments(try bench.volume()), { _ in })
        },
        Act(name: "connect", method: .connectVolume, needs: [.connectVolume]) { bench in
            let volume = try bench.volume()
            return (bench.arguments(volume, [("connector", AttachingChecks.connector("one")), ("mode", .string("rw"))]), { _ in })
        },
        Act(name: "disconnect", method: .disconnectVolume, needs: [.disconnectVolume]) { bench in
            let volume = try bench.volume()
            return (bench.arguments(volume, [("connector", AttachingChecks.connector("one")), ("attachments", .list([]))]), { _ in })
        },
        Act(name: "rename", method: .renameVolume, needs: [.renameVolume]) { bench in
            let old = try bench.volume()
            try text(bench, "old", to: old)
            let new = CheckBench.Object(data: old.data)
            bench.remember(new)
            return (bench.arguments(new, [("source", bench.describe(old))]), { try see($0, "old", in: new) })
        },
        Act(name: "manage", method: .manageVolume, needs: [.manageVolume]) { bench in
            let old = try bench.volume()
            try text(bench, "old", to: old)
            let new = CheckBench.Object()
            bench.remember(new)
            return (
                bench.arguments(new, [("reference", .members(["source-name": .string(old.name)]))]), { try see($0, "old", in: new) }
            )
        },
    ]

    static let cases: [ConformanceCase] =
        acts.map { act in
            ConformanceCase("kill -9: \(act.name), repeated by the next process", needs: act.needs) { bench in
                // How long the call takes here: the kills fall before it, at its beginning, and at parts of it.
                let (arguments, verify) = try act.prepare(bench)
                let duration = try bench.withHost { backend in
                    let begun = Timestamp.monotonic()
                    _ = try await backend.call(act.method, arguments)
                    return Timestamp.monotonic() - begun
                }
                try verify(bench)
                let whole = UInt32(min(duration, 60) * 1e6)
                for delay in [0, 50, 200, whole / 4, whole / 2, whole / 4 * 3] {
                    let (arguments, verify) = try act.prepare(bench)
                    _ = try bench.withHost { backend in try await killed(backend, act.method, arguments, after: delay) }
                    try verify(bench)
                }
            }
        }
        + acts.map { act in
            ConformanceCase("repeat: \(act.name), three times by three processes", needs: act.needs) { bench in
                let (arguments, verify) = try act.prepare(bench)
                for _ in 0..<3 { _ = try bench.withHost { try await $0.call(act.method, arguments) } }
                try verify(bench)
            }
        }
        + [
            ConformanceCase("cancel: a call that is cancelled ends, and can be repeated", needs: [.cloneVolume]) { bench in
                let source = try bench.volume()
                try text(bench, "source", to: source)
                let clone = CheckBench.Object()
                bench.remember(clone)
                let arguments = bench.arguments(clone, [("source", bench.describe(source))])
                let ended = try bench.withHost { backend in
                    let call = Task { try await backend.call(.cloneVolume, arguments) }
                    call.cancel()
                    do {
                        _ = try await call.value
                        return true
                    } catch let failure as DriverFailure { return failure.code == .cancelled }
                }
                try bench.require(ended, "it ended with another failure than cancelled")
                try bench.call(.cloneVolume, clone, [("source", bench.describe(source))])
                try see(bench, "source", in: clone)
            }
        ]

    /// Makes the call, kills the host `delay` microseconds later, and repeats the call until it returns.
    private static func killed(_ backend: Backend, _ method: DriverMethod, _ arguments: DriverValue, after delay: UInt32) async throws
        -> DriverValue
    {
        let pid = backend.pid
        startThread("killer") {
            usleep(delay)
            kill(pid, SIGKILL)
        }
        for _ in 0..<20 {
            do { return try await backend.call(method, arguments) } catch let failure as DriverFailure
                where failure.code == .hostDied || failure.code == .unavailable
            {
                _ = await backend.waitUntilUp(within: 30)
            }
        }
        throw CheckBench.Failure(description: "no answer after twenty hosts")
    }
}
