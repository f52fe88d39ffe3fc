import KeyManager
import Logging
import Primitives

/// How long the service waits for a key manager that does not answer: until it stops. The log tells at once, for it may be minutes.
struct KeyPatience: KeyWaiting {
    let isStopping: Guarded<Bool>
    let log: Logger

    var isOver: Bool { isStopping.withLock { $0 } }

    func told(_ failure: KeyFailure, repetitions: Int, pause: Int) {
        log.warning(
            "the key manager does not answer and is asked again: \(failure)",
            metadata: ["repetitions": "\(repetitions)", "pause_seconds": "\(pause)"])
    }
}
