import Glibc
import Primitives

/// A TCP proxy on 127.0.0.1 between a client and a server, which can be made to fail as networks and servers do.
public final class Proxy: Sendable {
    public enum Mode: Sendable, Equatable {
        case pass
        /// Connections are closed as soon as they are there.
        case refuse
        /// Nothing is ever answered.
        case hang
        /// Whatever is asked, these bytes come back.
        case answer(String)
    }

    public let port: UInt16
    private let descriptor: Int32
    private let target: UInt16
    private let state = Guarded<(mode: Mode, forwarded: [UInt8])>((.pass, []))

    public init(to target: UInt16) throws {
        (descriptor, port) = try Loopback.listen()
        self.target = target
        startThread("proxy") { [self] in
            while true {
                let client = accept(descriptor, nil, nil)
                guard client >= 0 else { return }
                startThread("proxied") { self.serve(client) }
            }
        }
    }

    public func set(_ mode: Mode) { state.withLock { $0.mode = mode } }

    /// How often the text was sent to the server since the last question.
    public func count(_ text: String) -> Int {
        state.withLock { state in
            defer { state.forwarded = [] }
            return String(decoding: state.forwarded, as: UTF8.self).ranges(of: text).count
        }
    }

    private var mode: Mode { state.withLock { $0.mode } }

    private func serve(_ client: Int32) {
        defer { close(client) }
        guard mode != .refuse, let server = try? Loopback.connect(target) else { return }
        defer { close(server) }
        while true {
            var ready = [pollfd(fd: client, events: Int16(POLLIN), revents: 0), pollfd(fd: server, events: Int16(POLLIN), revents: 0)]
            guard poll(&ready, 2, 200) >= 0 else { return }
            if mode == .refuse { return }
            var buffer = [UInt8](repeating: 0, count: 65_536)
            for (index, other) in [(0, server), (1, client)] where ready[index].revents != 0 {
                let count = recv(ready[index].fd, &buffer, buffer.count, 0)
                guard count > 0 else { return }
                let bytes = Array(buffer[..<count])
                if index == 0 {
                    switch mode {
                    case .hang: continue
                    case .answer(let text):
                        Loopback.send(client, Array(text.utf8))
                        continue
                    default: state.withLock { $0.forwarded += bytes }
                    }
                }
                guard Loopback.send(other, bytes) else { return }
            }
        }
    }
}
