public import Logging
import Primitives
import Synchronization

/// The level of each logger, which may change while it is in use. Loggers are named `clinker.<label>`.
public final class LogLevels: Sendable {
    /// One logger's level, read at every record.
    final class Level: Sendable {
        private let index: Atomic<Int>
        init(_ level: Logger.Level) { index = Atomic(Self.all.firstIndex(of: level) ?? 0) }

        var value: Logger.Level {
            get { Self.all[index.load(ordering: .relaxed)] }
            set { index.store(Self.all.firstIndex(of: newValue) ?? 0, ordering: .relaxed) }
        }
        private static let all = Logger.Level.allCases
    }

    private struct State {
        var common = Logger.Level.info
        var levels: [String: Level] = [:]
    }
    private let state = Guarded(State())

    public init() {}

    func level(_ label: String) -> Level {
        state.withLock { state in
            if let known = state.levels[label] { return known }
            let level = Level(state.common)
            state.levels[label] = level
            return level
        }
    }

    /// The level of new loggers; setting it also sets the level of all existing ones.
    public var common: Logger.Level {
        get { state.withLock { $0.common } }
        set {
            state.withLock { state in
                state.common = newValue
                for level in state.levels.values { level.value = newValue }
            }
        }
    }

    /// Loggers whose name begins with the prefix, by name.
    public func matching(_ prefix: String) -> [(name: String, level: Logger.Level)] {
        state.withLock { $0.levels.map { (name: "clinker." + $0.key, level: $0.value.value) } }
            .filter { $0.name.hasPrefix(prefix) }.sorted { $0.name < $1.name }
    }

    /// Sets the level of a logger by its name.
    public func set(_ name: String, to level: Logger.Level) {
        state.withLock { state in
            if name.hasPrefix("clinker."), let known = state.levels[String(name.dropFirst(8))] { known.value = level }
        }
    }
}
