public import CDriver
import Glibc

// A plugin links nothing of the host, therefore this is not the host's `SystemError`.
extension DriverError {
    /// The failure of a system call.
    ///
    /// - Parameters:
    ///   - code: what the host is to do next.
    ///   - what: what could not be done.
    ///   - number: the error number, such as a kept value of `errno`.
    public init(_ code: clinker_code, _ what: String, errno number: Int32) {
        self.init(code, "\(what): \(String(cString: strerror(number)))")
    }

    /// The failure of the C call just made. `errno` is read before `what` is evaluated: making a text may change it.
    public static func last(_ code: clinker_code, _ what: @autoclosure () -> String) -> DriverError {
        let number = errno
        return DriverError(code, what(), errno: number)
    }

    /// The same, with the code that its error number means for the host.
    public static func last(_ what: @autoclosure () -> String) -> DriverError {
        let number = errno
        let code: clinker_code =
            switch number {
            case ENOSPC, EDQUOT: CLINKER_NO_SPACE
            case ENOENT, ENXIO: CLINKER_NOT_FOUND
            case EEXIST: CLINKER_EXISTS
            case EAGAIN, ENFILE, EMFILE, ENOMEM, ESTALE: CLINKER_RETRY
            case EBUSY: CLINKER_BUSY
            default: CLINKER_ERROR
            }
        return DriverError(code, what(), errno: number)
    }
}
