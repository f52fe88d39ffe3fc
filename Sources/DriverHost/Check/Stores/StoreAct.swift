import Glibc

/// What a process of its own does with a store, to be killed at it. Public for the command that runs it.
public enum StoreAct: String, CaseIterable, Sendable {
    case put, write, remove

    static let size = 32 << 20
    /// What `put` and `write` put.
    static var bytes: [UInt8] { CheckBench.pattern(size, seed: 77) }

    /// What `remove` removes.
    func names(_ folder: String) -> [String] { (0..<1_000).map { "\(folder)/f\($0 % 7)/o\($0)" } }

    /// - Parameter name: of the object, or the folder of those that are removed.
    func perform(_ store: Store, _ name: String, _ bytes: [UInt8]) throws {
        switch self {
        case .put: try bytes.withUnsafeBytes { try store.put(name, [$0]) }
        case .write:
            let writer = try store.write(name)
            try bytes.withUnsafeBytes { bytes in
                for offset in stride(from: 0, to: bytes.count, by: 1 << 20) {
                    try writer.append(UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + (1 << 20)]))
                }
            }
            try writer.commit()
        case .remove: try store.remove(names(name))
        }
    }

    /// Runs an act in this process: `act: put NAME`. Nil if it is none. Tells on the descriptor when it begins.
    public static func perform(_ words: String, plugin path: String, options: DriverValue, told descriptor: Int32) -> ConformanceOutcome? {
        let parts = words.split(separator: " ", maxSplits: 2).map(String.init)
        guard parts.count == 3, parts[0] == "act:", let act = StoreAct(rawValue: parts[1]) else { return nil }
        do {
            let store = try Store(StorePlugin(path: path), options: options)
            // Made before, so that a kill meets the call.
            let bytes = act == .remove ? [] : bytes
            var byte: UInt8 = 10
            Glibc.write(descriptor, &byte, 1)
            try act.perform(store, parts[2], bytes)
            return .passed
        } catch { return .failed("\(error)") }
    }
}
