/// Where something lives: `node@backend` or `node@backend#pool`.
public enum HostName {
    /// The part before the pool.
    public static func backend(of host: String) -> String { String(host.prefix { $0 != "#" }) }
}
