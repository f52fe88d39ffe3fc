import Primitives

/// One line for every request: time, ACCESS, address, method, path, status, length, duration in microseconds, ids, operation.
struct AccessLog: Sendable {
    let sink: LogSink

    func write(_ request: HTTPRequest, status: Int, length: Int) {
        let microseconds = Int((Timestamp.monotonic() - request.startedAt) * 1e6)
        switch sink.format {
        case .keyValue:
            sink.gather { buffer in
                Self.append(Timestamp.now(), &buffer)
                Self.append(" ACCESS ", &buffer)
                Self.append(request.remoteAddress, &buffer)
                Self.append(" ", &buffer)
                Self.appendClean(request.method, &buffer)
                Self.append(" ", &buffer)
                Self.appendClean(request.rawPath, &buffer)
                Self.append(" status=", &buffer)
                Self.append(status, &buffer)
                Self.append(" length=", &buffer)
                Self.append(length, &buffer)
                Self.append(" us=", &buffer)
                Self.append(microseconds, &buffer)
                Self.append(" operation=", &buffer)
                Self.append(request.operationName, &buffer)
                Self.append(" request_id=", &buffer)
                Self.append(request.requestID, &buffer)
                if let global = request.globalRequestID {
                    Self.append(" global_request_id=", &buffer)
                    Self.append(global, &buffer)
                }
                if let identity = request.identity {
                    Self.append(" user=", &buffer)
                    Self.appendClean(identity.userID, &buffer)
                    Self.append(" project=", &buffer)
                    Self.appendClean(identity.projectID ?? "-", &buffer)
                }
                buffer.append(UInt8(ascii: "\n"))
            }
        case .json:
            var pairs: [(key: String, value: String)] = [
                (key: "address", value: request.remoteAddress), (key: "method", value: request.method), (key: "path", value: request.rawPath),
                (key: "status", value: String(status)), (key: "length", value: String(length)), (key: "us", value: String(microseconds)),
                (key: "operation", value: request.operationName), (key: "request_id", value: request.requestID),
            ]
            if let global = request.globalRequestID { pairs.append((key: "global_request_id", value: global)) }
            if let identity = request.identity {
                pairs.append((key: "user", value: identity.userID))
                pairs.append((key: "project", value: identity.projectID ?? "-"))
            }
            let line = LogLine.render(format: .json, level: "access", label: "api", message: "", pairs: pairs)
            sink.gather { $0.append(contentsOf: line.utf8) }
        }
    }

    @inline(__always)
    private static func append(_ text: String, _ buffer: inout [UInt8]) { buffer.append(contentsOf: text.utf8) }

    private static func append(_ value: Int, _ buffer: inout [UInt8]) {
        var divisor = 1
        while value / divisor >= 10 { divisor *= 10 }
        while divisor > 0 {
            buffer.append(UInt8(ascii: "0") + UInt8(value / divisor % 10))
            divisor /= 10
        }
    }

    /// What a client sent may not break the line or pretend to be a field.
    private static func appendClean(_ text: String, _ buffer: inout [UInt8]) {
        for byte in text.utf8 { buffer.append(byte > 0x20 && byte != 0x7F ? byte : UInt8(ascii: "_")) }
    }
}
