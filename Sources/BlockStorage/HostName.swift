/// Where something lives: `node@backend` or `node@backend#pool`.
public enum HostName {
    /// What stands behind a backend's name where a pool is named, and behind a node's where a backend is.
    static let poolSeparators: [Character] = ["#"]
    static let separators: [Character] = ["@", "#"]

    /// The part before the pool.
    public static func backend(of host: String) -> String {
        guard let end = host.utf8.firstIndex(of: UInt8(ascii: "#")) else { return host }
        return String(host[..<end])
    }

    /// The pool, where one is named.
    public static func pool(of host: String) -> String? {
        guard let separator = host.utf8.firstIndex(of: UInt8(ascii: "#")) else { return nil }
        let pool = host[host.utf8.index(after: separator)...]
        return pool.isEmpty ? nil : String(pool)
    }
}
