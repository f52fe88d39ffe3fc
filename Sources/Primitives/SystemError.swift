import Glibc

/// An error of the operating system, with its text.
public struct SystemError: Error, CustomStringConvertible, Sendable {
    /// The value of `errno`.
    public let code: Int32
    /// What could not be done.
    public let what: String

    /// - Parameters:
    ///   - code: an error number, such as the result of `posix_spawn` or a value of `errno` that was kept.
    ///   - what: what could not be done.
    public init(_ code: Int32, _ what: String) {
        self.code = code
        self.what = what
    }

    /// The error of the C call just made. `errno` is read before `what` is evaluated: making a text may change it.
    public static func last(_ what: @autoclosure () -> String) -> SystemError {
        let code = errno
        return SystemError(code, what())
    }

    /// The text of an error number.
    public static func text(_ code: Int32) -> String { String(cString: strerror(code)) }

    public var description: String { "\(what): \(Self.text(code))" }
}
