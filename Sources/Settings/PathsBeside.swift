extension Settings {
    /// A path of an option's value: a relative one leads on from the last configuration file's directory.
    public static func path(_ name: String, beside files: [String]) -> String {
        if name.hasPrefix("/") { return name }
        let home =
            files.last.map { $0.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/") }
            ?? "/etc/clinker"
        return (home.isEmpty ? "." : home) + "/" + name
    }
}
