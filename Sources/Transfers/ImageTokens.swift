import DriverHost
import Primitives

/// Asks the core for a new token when the image service takes the old one no more.
final class ImageTokens: Sendable {
    private let wire: Wire
    private let answers = Guarded<[Secret?]>([])
    private let arrived = Semaphore()
    /// Seconds that the core has.
    private static let patience = 60.0

    init(_ wire: Wire) { self.wire = wire }

    /// Takes what the core sends, on the thread that receives.
    func receive(_ frame: Frame) {
        guard frame.kind == .progress, let token = frame.value["token"] else { return }
        answers.withLock { $0.append(token.string.map { Secret($0) }) }
        arrived.post()
    }

    /// - Parameter onWait: called once a second.
    /// - Throws: `DriverFailure` if there is none to be had.
    func renew(onWait: () -> Void) throws -> Secret {
        wire.send(Frame(kind: .progress, id: 0, value: .members(["token": .boolean(true)])))
        let begunAt = Timestamp.monotonic()
        while !arrived.wait(seconds: 1) {
            onWait()
            guard Timestamp.monotonic() - begunAt < Self.patience else {
                throw DriverFailure(.retry, "the image service takes the token no more, and no new one came in time")
            }
        }
        guard let token = answers.withLock({ $0.removeFirst() }) else {
            throw DriverFailure(.retry, "the image service takes the token no more, and there is no new one")
        }
        return token
    }
}
