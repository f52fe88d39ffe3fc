/// Where something lives: `node@backend` or `node@backend#pool`.
public enum HostName {
    /// The part before the pool.
    public static func backend(of host: String) -> String {
        guard let end = host.utf8.firstIndex(of: UInt8(ascii: "#")) else { return host }
        return String(host[..<end])
    }
}
