import DriverHost
import Glibc

/// Calls of plugins in this process that said RETRY: they are made again, as flows do with those in a driver's host. What is repeated says
/// where in an object it is at work, so that a second call changes nothing that a first one has done.
enum Repetition {
    /// Milliseconds before each repetition.
    static let pauses: [UInt32] = [200, 400, 800, 1_600, 3_200]

    static func run<T, Failure: Error>(pauses: [UInt32] = pauses, _ call: () throws(Failure) -> T) throws(Failure) -> T {
        for pause in pauses {
            do { return try call() } catch {
                guard (error as? DriverFailure)?.code == .retry else { throw error }
                usleep(pause * 1000)
            }
        }
        return try call()
    }
}

extension Driver {
    /// Opens a block handle until the last reference to it is gone.
    func openAgain(_ object: DriverValue, writable: Bool) throws -> OpenHandle {
        try Repetition.run { try open(object, writable: writable) }
    }
}
