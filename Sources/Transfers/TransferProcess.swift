import DriverHost
import Glibc
import Primitives
import Processes

/// The transfer process: opens the plugins of its ends, does its one job, reports the outcome and ends. It also ends when the core closes the
/// connection, so that no copy outlives its core.
public enum TransferProcess {
    public static func run(descriptor: Int32) -> Never {
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        lowerThreadPriority()
        preferForOutOfMemoryKill()
        keepFreedMemory()
        let wire = Wire(descriptor)
        guard let order = try? wire.receive(), order.kind == .open else { _exit(2) }
        let tokens = ImageTokens(wire)
        let ending = JobEnd()
        let isServing = order.value["job"]?.string == "serve"
        startThread("wire") {
            while let frame = (try? wire.receive()) ?? nil, frame.kind != .cancel { tokens.receive(frame) }
            // What other processes do for this one ends with it: qemu-img is told by the kernel.
            ending.run(waits: isServing)
        }
        do {
            guard order.value["wire"]?.integer == Frame.version else {
                throw WireError("the core speaks another wire: restart the whole service after an upgrade")
            }
            let output: DriverValue
            switch order.value["job"]?.string {
            case "copy": output = .members(["seconds": .real(try copy(order.value, wire))])
            case "backup": output = try BackupWork(order.value, wire).backup()
            case "restore": output = try BackupWork(order.value, wire).restore()
            case "remove": output = try BackupWork(order.value, wire).remove()
            case "verify": output = try BackupWork(order.value, wire).verify()
            case "maintain": output = try RepositoryWork(order.value, wire).run()
            case "encrypt": output = try encrypt(order.value, wire)
            case "serve": output = try BackupServeWork(order.value, wire, ending).run()
            case "fetch-image": output = try ImageFetch(order.value, wire, tokens).run()
            case "store-image": output = try ImageStoring(order.value, wire, tokens).run()
            case let job: throw DriverFailure(.unsupported, "a transfer knows no job \(job ?? "without a name")")
            }
            wire.send(Frame(kind: .result, id: 0, value: output))
        } catch {
            let known = error as? DriverFailure
            let code = known?.code ?? (error is PluginError ? .badConfiguration : .error)
            wire.send(
                Frame(
                    kind: .failed, id: 0,
                    value: .members(["code": .integer(Int64(code.rawValue)), "message": .string(known?.message ?? "\(error)")])))
        }
        _exit(0)
    }

    private static func encrypt(_ order: DriverValue, _ wire: Wire) throws -> DriverValue {
        guard let luks = order["luks"].flatMap({ LUKSOrder($0) }) else { throw WireError("the order to encrypt says not how") }
        let begun = Timestamp.monotonic()
        try TransferEnds(order, wire).driver("target").withHandle(order["target"]?["object"] ?? .null, writable: true) {
            _ = try luks.prepare($0)
        }
        return .members(["seconds": .real(Timestamp.monotonic() - begun)])
    }

    /// The duration of the copy in seconds, without opening and closing.
    private static func copy(_ order: DriverValue, _ wire: Wire) throws -> Double {
        let ends = TransferEnds(order, wire)
        let (source, target) = (try ends.driver("source"), try ends.driver("target"))
        var copy = BlockCopy(targetIsZero: true)
        copy.start = UInt64(clamping: order["start"]?.integer ?? 0)
        copy.bytesPerSecond = Int(order["bytes_per_second"]?.integer ?? 0)
        copy.onProgress = { done, total in
            wire.send(
                Frame(
                    kind: .progress, id: 0,
                    value: .members(["done": .integer(Int64(clamping: done)), "total": .integer(Int64(clamping: total))])))
        }
        copy.onCheckpoint = { position in
            wire.send(Frame(kind: .progress, id: 0, value: .members(["checkpoint": .integer(Int64(clamping: position))])))
        }
        return try source.withHandle(order["source"]?["object"] ?? .null, writable: false) { input in
            try target.withHandle(order["target"]?["object"] ?? .null, writable: true) { output in
                let begun = Timestamp.monotonic()
                try copy.run(from: input, to: output)
                return Timestamp.monotonic() - begun
            }
        }
    }
}
