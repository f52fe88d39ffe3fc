import CDriver
import DriverHost
import Glibc
import Primitives

/// The job of a transfer process that serves a backup until its time is over.
struct BackupServeWork {
    private let value: DriverValue
    private let wire: Wire
    private let ending: JobEnd

    /// Seconds between two signs of life.
    private static let beat = 2.0

    init(_ value: DriverValue, _ wire: Wire, _ ending: JobEnd) {
        self.value = value
        self.wire = wire
        self.ending = ending
    }

    func run() throws -> DriverValue {
        let place = BackupServePlace(value["serve"] ?? .null)
        let order = BackupOrder(value["order"] ?? .null)
        let store = try TransferEnds(value, wire).store("target")
        let wire = wire
        let server = try BackupServer(order, store, exportName: place.token) { line in
            let text = "backup \(order.backup.id): \(line)"
            wire.send(
                Frame(
                    kind: .log, id: 0,
                    value: .members(["level": .integer(Int64(CLINKER_WARNING.rawValue)), "message": .string(text)])))
        }
        ending.set(server.close)
        let (listener, address) = try place.listen()
        defer {
            close(listener)
            if let socket = place.socket { unlink(socket) }
        }
        let end = Timestamp.monotonic() + Double(place.seconds)
        wire.send(Frame(kind: .progress, id: 0, value: .members(["ready": .string(address)])))
        startThread("serve-end") {
            while case let rest = end - Timestamp.monotonic(), rest > 0 {
                pause(min(rest, Self.beat))
                wire.send(Frame(kind: .progress, id: 0, value: .members(["done": .integer(0), "total": .integer(0)])))
            }
            server.end()
        }
        server.serve(listener)
        return .object([])
    }
}
