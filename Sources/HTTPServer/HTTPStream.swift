/// A response body that is produced over time, such as server-sent events.
public protocol HTTPStream: AnyObject, Sendable {
    /// Fills the buffer with available content. If there is none, it calls `park`, which suspends the connection and returns a wake-up
    /// closure to be called once, from any thread, when there is content. Checking for content and storing the closure must happen under
    /// the lock that producers take, so that no wake-up is lost.
    func read(into buffer: UnsafeMutableRawBufferPointer, park: () -> @Sendable () -> Void) -> HTTPStreamPiece
    /// Called when the connection is closed; nothing is read afterwards.
    func closed()
}

public enum HTTPStreamPiece: Sendable {
    case bytes(Int)
    /// No content yet; `park` was called.
    case later
    /// No content yet, but the search continues: call again after the other streams have had their turn.
    case searching
    case end
}
