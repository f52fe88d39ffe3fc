import Primitives

/// One line for every request: time, ACCESS, address, method, path, status, length, duration in microseconds, ids, operation.
struct AccessLog: Sendable {
    let sink: LogSink

    func write(_ request: HTTPRequest, status: Int, length: Int) {
        let microseconds = Int((Timestamp.monotonic() - request.startedAt) * 1e6)
        switch sink.format {
        case .keyValue:
            var line = Line()
            line.append(Timestamp.now())
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
            line.append(request.operationName)
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
            line.append("\n")
            sink.gather(line.bytes)
        case .json:
            var pairs: [(key: String, value: String)] = [
                (key: "address", value: request.remoteAddress), (key: "method", value: request.method),
                (key: "path", value: request.rawPath),
                (key: "status", value: String(status)), (key: "length", value: String(length)), (key: "us", value: String(microseconds)),
                (key: "operation", value: request.operationName), (key: "request_id", value: request.requestID),
            ]
            if let global = request.globalRequestID { pairs.append((key: "global_request_id", value: global)) }
            if let identity = request.identity {
                pairs.append((key: "user", value: identity.userID))
                pairs.append((key: "project", value: identity.projectID ?? "-"))
            }
            sink.gather(Array(LogLine.render(format: .json, level: "access", label: "api", message: "", pairs: pairs).utf8))
        }
    }

    /// A line being written; no lock is held meanwhile.
    private struct Line {
        var bytes: [UInt8]

        init() {
            bytes = []
            bytes.reserveCapacity(512)
        }

        @inline(__always)
        mutating func append(_ text: String) {
            var text = text
            text.withUTF8 { bytes.append(contentsOf: $0) }
        }

        @inline(__always)
        mutating func append(_ text: StaticString) {
            bytes.append(contentsOf: UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
        }

        mutating func append(_ value: Int) {
            var divisor = 1
            while value / divisor >= 10 { divisor *= 10 }
            while divisor > 0 {
                bytes.append(UInt8(ascii: "0") + UInt8(value / divisor % 10))
                divisor /= 10
            }
        }

        /// What a client sent may not break the line or pretend to be a field.
        mutating func appendClean(_ text: String) {
            var text = text
            text.withUTF8 { source in
                let start = bytes.count
                bytes.append(contentsOf: source)
                for index in start..<bytes.count where bytes[index] <= 0x20 || bytes[index] == 0x7F { bytes[index] = UInt8(ascii: "_") }
            }
        }
    }
}
