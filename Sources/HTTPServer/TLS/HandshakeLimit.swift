import Glibc
import Primitives

/// Counts the TLS handshakes that have begun and not ended, by the client's address: they are cheap for a client to begin and leave.
final class HandshakeLimit: Sendable {
    /// The bytes of an IPv4 or IPv6 address.
    struct Address: Hashable, Sendable {
        private var high: UInt64 = 0
        private var low: UInt64 = 0

        init(_ address: UnsafePointer<sockaddr>?) {
            guard let address else { return }
            switch Int32(address.pointee.sa_family) {
            case AF_INET: low = UInt64(UnsafeRawPointer(address).loadUnaligned(as: sockaddr_in.self).sin_addr.s_addr)
            case AF_INET6:
                let bytes = UnsafeRawPointer(address).loadUnaligned(as: sockaddr_in6.self).sin6_addr
                (high, low) = withUnsafeBytes(of: bytes) {
                    ($0.loadUnaligned(fromByteOffset: 0, as: UInt64.self), $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
                }
            default: break
            }
        }
    }

    private let open = Guarded<(all: Int, byAddress: [Address: Int])>((0, [:]))
    private let limit: Int

    /// - Parameter limit: the most of one address; 0 for no limit.
    init(limit: Int) { self.limit = limit }

    var count: Int { open.withLock { $0.all } }

    func hasRoom(for address: Address) -> Bool { limit == 0 || open.withLock { $0.byAddress[address] ?? 0 } < limit }

    func began(_ address: Address) {
        open.withLock { open in
            open.all += 1
            open.byAddress[address, default: 0] += 1
        }
    }

    func ended(_ address: Address) {
        open.withLock { open in
            open.all -= 1
            let left = (open.byAddress[address] ?? 1) - 1
            open.byAddress[address] = left > 0 ? left : nil
        }
    }
}
