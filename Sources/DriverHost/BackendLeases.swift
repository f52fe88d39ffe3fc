import Glibc
import Logging
import Primitives
import Processes

/// What ends the host of a backend that hangs or grows.
extension Backend {
    /// Kills the host if a call, or the opening of the driver, has shown no progress for too long.
    func endExpiredLeases() {
        let now = Timestamp.monotonic()
        let (isOpeningLate, expired) = state.withLock { state -> (Bool, Pending?) in
            guard state.pid > 0 else { return (false, nil) }
            let isOpeningLate = state.openExpires.map { $0 < now } ?? false
            let expired = state.pending.values.first { $0.expires < now }
            if isOpeningLate || expired != nil { kill(state.pid, SIGKILL) }
            return (isOpeningLate, expired)
        }
        if isOpeningLate {
            log.error(
                "the driver did not open within \(Int(configuration.openTimeout)) s: its host is killed", metadata: ["backend": "\(name)"])
        } else if let expired {
            let seconds = expired.isCancelled ? min(Self.patienceWithCancelled, configuration.callTimeout) : configuration.callTimeout
            log.error(
                "a driver call\(expired.isCancelled ? " that was cancelled" : "") showed no progress for \(Int(seconds)) s: its host is killed",
                metadata: ["backend": "\(name)", "method": "\(expired.method.rawValue)", "request_id": "\(expired.requestID)"])
        }
    }

    /// Kills the host if it holds too much memory.
    func endTooLarge() {
        guard configuration.memoryLimit > 0, memory > configuration.memoryLimit else { return }
        let held = state.withLock { state in
            // The running host may be a new one.
            let held = state.pid > 0 ? residentMemory(of: state.pid) : 0
            if held > configuration.memoryLimit { kill(state.pid, SIGKILL) }
            return held
        }
        guard held > configuration.memoryLimit else { return }
        log.error(
            "the driver host held \(held >> 20) MiB of memory, more than driver_memory_limit: it is killed",
            metadata: ["backend": "\(name)"])
    }
}
