import CGnuTLS
import Glibc
import Primitives

/// What a server shows to clients that connect with TLS: the files as they were read last. Connections that are open keep what they began
/// with, so that new files disturb none.
public final class TLSEndpoint: Sendable {
    private let state: Guarded<TLSCredentials>

    public init(_ configuration: TLSConfiguration) throws(TLSProblem) { state = Guarded(try TLSCredentials(configuration)) }

    /// Reads the files again, for the connections that follow. If there is a problem, the last ones stay in use.
    public func replace(_ configuration: TLSConfiguration) throws(TLSProblem) {
        let fresh = try TLSCredentials(configuration)
        state.withLock { $0 = fresh }
    }

    var current: TLSCredentials { state.withLock { $0 } }

    /// When the server's certificate ends, in seconds since 1970.
    public var expires: Double { current.expires }

    /// A warning if the certificate has ended or ends within 14 days; nil otherwise.
    public func warning(at now: Double = Timestamp.seconds()) -> String? {
        let current = current
        let days = ((current.expires - now) / 86_400).rounded(.down)
        let file = current.configuration.certificateFile
        if days < 0 { return "\(file): the certificate has ended: clients refuse it" }
        return days < 14 ? "\(file): the certificate ends in \(Int(days)) days" : nil
    }
}
