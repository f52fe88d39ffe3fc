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
            withUnsafeTemporaryAllocation(of: UInt8.self, capacity: Line.capacity) { buffer in
                var line = Line(buffer)
                defer { line.end() }
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

    /// A line being written: into the caller's buffer, and from the first text on that does not fit there, into a larger one. What a client
    /// sent is cut where it grows too long.
    private struct Line {
        /// Bytes that are on the stack.
        static let capacity = 1024
        private static let longest = 4096
        private static let longestPart = 1500
        private var bytes: UnsafeMutableBufferPointer<UInt8>
        private var count = 0
        private var isMoved = false

        init(_ bytes: UnsafeMutableBufferPointer<UInt8>) { self.bytes = bytes }

        func end() { if isMoved { bytes.deallocate() } }

        @inline(never)
        private mutating func move() {
            let larger = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: Self.longest)
            _ = larger.initialize(from: bytes[..<count])
            bytes = larger
            isMoved = true
        }

        /// The finished line, with its newline.
        var finished: UnsafeBufferPointer<UInt8> {
            bytes[min(count, bytes.count - 1)] = UInt8(ascii: "\n")
            return UnsafeBufferPointer(rebasing: bytes[..<min(count + 1, bytes.count)])
        }

        mutating func appendTime() { count += Timestamp.write(into: UnsafeMutableBufferPointer(rebasing: bytes[count...])) }

        @inline(__always)
        private mutating func append(_ source: UnsafeBufferPointer<UInt8>) {
            if source.count > bytes.count - 1 - count, !isMoved { move() }
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
            if count + 20 >= bytes.count, !isMoved { move() }
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
