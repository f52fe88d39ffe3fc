import Glibc
import Observability
import Primitives

/// One line for every request: time, ACCESS, address, method, path, status, length, duration in microseconds, ids, operation.
struct AccessLog: Sendable {
    let sink: LogSink

    func write(_ request: HTTPRequest, status: Int, length: Int, seconds: Double) {
        let microseconds = Int(seconds * 1e6)
        switch sink.format {
        case .keyValue:
            let texts = request.method.utf8.count + request.rawPath.utf8.count + (request.identity.map(Self.length) ?? 0)
            withUnsafeTemporaryAllocation(of: UInt8.self, capacity: Line.capacity(for: texts)) { buffer in
                var line = Line(buffer)
                line.appendTime()
                line.append(" ACCESS ")
                line.append(request.remoteAddress)
                line.append(" ")
                line.appendClean(request.method)
                line.append(" ")
                line.appendClean(request.rawPath)
                line.append(" status=")
                line.append(status)
                line.append(" length=")
                line.append(length)
                line.append(" us=")
                line.append(microseconds)
                line.append(" operation=")
                line.append(request.route.name)
                line.append(" request_id=")
                line.append(request.requestID)
                if let global = request.globalRequestID {
                    line.append(" global_request_id=")
                    line.append(global)
                }
                if let identity = request.identity {
                    line.append(" user=")
                    line.appendClean(identity.userID)
                    line.append(" project=")
                    line.appendClean(identity.projectID ?? "-")
                }
                sink.gather(line.finished, requestID: request.requestID)
            }
        case .json:
            var pairs: [(key: String, value: String)] = [
                (key: "address", value: request.remoteAddress), (key: "method", value: request.method),
                (key: "path", value: request.rawPath),
                (key: "status", value: String(status)), (key: "length", value: String(length)), (key: "us", value: String(microseconds)),
                (key: "operation", value: request.route.name), (key: "request_id", value: request.requestID),
            ]
            if let global = request.globalRequestID { pairs.append((key: "global_request_id", value: global)) }
            if let identity = request.identity {
                pairs.append((key: "user", value: identity.userID))
                pairs.append((key: "project", value: identity.projectID ?? "-"))
            }
            var text = LogLine.render(format: .json, level: "access", label: "api", message: "", pairs: pairs)
            text.withUTF8 { sink.gather($0, requestID: request.requestID) }
        }
    }

    private static func length(_ identity: Identity) -> Int { identity.userID.utf8.count + (identity.projectID?.utf8.count ?? 0) }

    /// A line being written. What a client sent is cut where it grows too long.
    private struct Line {
        /// Up to 1,024 bytes are on the stack. All fields but the client's texts take less than half of that.
        static func capacity(for texts: Int) -> Int { texts <= 512 ? 1024 : 4096 }
        private static let longestPart = 1500
        private let bytes: UnsafeMutableBufferPointer<UInt8>
        private var count = 0

        init(_ bytes: UnsafeMutableBufferPointer<UInt8>) { self.bytes = bytes }

        /// The finished line, with its newline.
        var finished: UnsafeBufferPointer<UInt8> {
            bytes[min(count, bytes.count - 1)] = UInt8(ascii: "\n")
            return UnsafeBufferPointer(rebasing: bytes[..<min(count + 1, bytes.count)])
        }

        mutating func appendTime() { count += Timestamp.write(into: UnsafeMutableBufferPointer(rebasing: bytes[count...])) }

        @inline(__always)
        private mutating func append(_ source: UnsafeBufferPointer<UInt8>) {
            let length = min(source.count, Self.longestPart, bytes.count - 1 - count)
            guard length > 0, let from = source.baseAddress, let to = bytes.baseAddress else { return }
            memcpy(to + count, from, length)
            count += length
        }

        @inline(__always)
        mutating func append(_ text: String) {
            var text = text
            text.withUTF8 { append($0) }
        }

        @inline(__always)
        mutating func append(_ text: StaticString) { append(UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)) }

        mutating func append(_ value: Int) {
            guard count + 20 < bytes.count else { return }
            var divisor = 1
            while value / divisor >= 10 { divisor *= 10 }
            while divisor > 0 {
                bytes[count] = UInt8(ascii: "0") + UInt8(value / divisor % 10)
                count += 1
                divisor /= 10
            }
        }

        /// Escapes text sent by a client, so that it cannot end the line or look like another field.
        mutating func appendClean(_ text: String) {
            let start = count
            append(text)
            var index = start
            while index < count {
                let length = hidden(index)
                for place in index..<(index + length) { bytes[place] = UInt8(ascii: "_") }
                index += max(1, length)
            }
        }

        /// The number of bytes of an invisible character at the position: white space, a control character, a line separator, a
        /// bidirectional formatting character.
        private func hidden(_ index: Int) -> Int {
            func at(_ offset: Int) -> UInt8 { index + offset < count ? bytes[index + offset] : 0 }
            switch bytes[index] {
            case 0...0x20, 0x7F: return 1
            case 0xC2 where (0x80...0x9F).contains(at(1)), 0xD8 where at(1) == 0x9C: return 2
            case 0xE2 where at(1) == 0x80 && (at(2) == 0x8E || at(2) == 0x8F || (0xA8...0xAE).contains(at(2))),
                0xE2 where at(1) == 0x81 && (0xA6...0xA9).contains(at(2)):
                return 3
            default: return 0
            }
        }
    }
}
