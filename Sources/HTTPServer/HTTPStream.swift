/// A body without end, written as its content arises.
public protocol HTTPStream: AnyObject, Sendable {
    /// Fills the buffer with what there is. Where there is nothing, it calls `park`, which puts the connection to sleep, and
    /// keeps what it gives: calling that, once and from any thread, wakes the connection. Nothing may become readable between
    /// the look and the keeping, so both happen under the lock under which the stream is filled.
    func read(into buffer: UnsafeMutableRawBufferPointer, park: () -> @Sendable () -> Void) -> HTTPStreamPiece
    /// The connection is gone: nothing is read any more.
    func closed()
}

public enum HTTPStreamPiece: Sendable {
    case bytes(Int)
    /// Nothing yet; `park` was called.
    case later
    /// Nothing yet, but what there may be is being looked for: to be asked again when the others had their turn.
    case searching
    case end
}
