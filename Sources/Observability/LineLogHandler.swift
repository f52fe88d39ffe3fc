import Logging

/// One line a record: `time LEVEL label message key=value ...`, or a JSON object.
struct LineLogHandler: LogHandler {
    let label: String
    let sink: LogSink
    let level: LogLevels.Level
    var metadata: Logger.Metadata = [:]

    /// Shared by all copies of the logger.
    var logLevel: Logger.Level {
        get { level.value }
        set { _ = newValue }
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        var all = metadata
        if let more = event.metadata { all.merge(more) { $1 } }
        let pairs = all.map { (key: $0.key, value: $0.value.description) }.sorted { $0.key < $1.key }
        sink.write(
            LogLine.render(
                format: sink.format, level: event.level.rawValue, label: label, message: event.message.description, pairs: pairs),
            level: event.level, logger: label, requestID: all["request_id"]?.description)
    }
}
