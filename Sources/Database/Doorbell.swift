import Primitives

/// Something that listeners are told of after a commit. A ring may be lost with its process: it says that it is worth looking now, and
/// what there is to see is in the tables.
public final class Topic: Sendable {
    public let name: String
    public init(_ name: String) { self.name = name }
}

/// Who listens to what, in this process.
final class Doorbell: Sendable {
    struct Ring: Sendable {
        let topic: Topic
        let subject: String
    }

    private struct Listener: Sendable {
        let topic: Topic
        let call: @Sendable (String) -> Void
    }
    private let listeners = Guarded<[Listener]>([])

    func listen(to topic: Topic, _ listener: @escaping @Sendable (String) -> Void) {
        listeners.withLock { $0.append(Listener(topic: topic, call: listener)) }
    }

    func ring(_ rings: [Ring]) {
        if rings.isEmpty { return }
        let listeners = listeners.withLock { $0 }
        for ring in rings {
            for listener in listeners where listener.topic === ring.topic { listener.call(ring.subject) }
        }
    }
}
