import Glibc
public import Logging
public import Primitives

/// The log: renders records and hands every line to all its outputs. Lines of the application are written at once; access lines are
/// gathered and written at least every 100 ms.
public final class LogSink: Sendable {
    public enum Format: String, Sendable { case keyValue = "text", json }

    public let format: Format
    private let outputs: [any LogOutput]
    public let levels = LogLevels()

    /// Whether all loggers write records of level debug; may change while they are in use.
    public var isDebug: Bool {
        get { levels.common == .debug }
        set { levels.common = newValue ? .debug : .info }
    }

    public init(descriptor: Int32 = 2, format: Format = .keyValue) {
        self.format = format
        outputs = [DescriptorOutput(descriptor)]
    }

    /// Throws the system's message for what cannot be opened. A socket that nobody listens on is none: it is tried again and again.
    public init(_ destinations: [LogDestination], format: Format) throws(SystemError) {
        self.format = format
        var outputs: [any LogOutput] = []
        for destination in destinations { outputs.append(try destination.open(format: format)) }
        self.outputs = outputs
    }

    /// Opens files by their names again: after somebody moved the old ones away.
    public func reopen() throws(SystemError) { for output in outputs { try output.reopen() } }

    /// Writes gathered lines from a thread of its own for as long as the process lives.
    public func startFlushing() {
        startThread("log") { [self] in
            while true {
                usleep(100_000)
                flush()
            }
        }
    }

    /// Gathers a finished line (with its newline) that tells of a request.
    public func gather(_ line: UnsafeBufferPointer<UInt8>, requestID: String) {
        let record = LogRecord(line: line, level: .info, logger: "api", requestID: requestID)
        for output in outputs { output.gather(record) }
    }

    func write(_ line: String, level: Logger.Level, logger: String, requestID: String?) {
        var line = line
        line.withUTF8 { bytes in
            let record = LogRecord(line: bytes, level: level, logger: logger, requestID: requestID)
            for output in outputs { output.write(record) }
        }
    }

    public func flush() { for output in outputs { output.flush() } }

    /// Lines that an output could not take and dropped.
    public var lost: Int { outputs.reduce(0) { $0 + $1.lost } }

    /// A logger that writes here, at the level of the sink.
    public func logger(_ label: String) -> Logger {
        Logger(label: label) { LineLogHandler(label: $0, sink: self, level: levels.level($0)) }
    }
}
