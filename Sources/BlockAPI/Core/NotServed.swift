/// What Cinder serves and this release does not, in words for whoever asks for it. A feature that comes takes its line away.
enum NotServed {
    /// Paths and all that lies below them; `{}` stands for any name.
    static let paths: [(path: String, what: String)] = [
        ("/groups", "Groups are"),
        ("/group_snapshots", "Snapshots of groups are"),
        ("/group_types", "Types of groups are"),
        ("/consistencygroups", "Consistency groups are"),
        ("/cgsnapshots", "Snapshots of consistency groups are"),
        ("/clusters", "Clusters are"),
        ("/workers", "Clean-up of workers is"),
        ("/os-services/failover_host", "Failover to replicas is"),
    ]

    private static func sentence(_ what: String) -> String { "\(what) not served by this release of Clinker." }

    /// What is said of a path for which no operation was found; nil if it is none of Cinder's either.
    static func sentence(ofPath segments: ArraySlice<Substring>) -> String? {
        paths.first { covers($0.path, segments) }.map { sentence($0.what) }
    }

    /// Whether the path lies at or below the template.
    static func covers(_ template: String, _ segments: ArraySlice<Substring>) -> Bool {
        let names = template.split(separator: "/")
        return segments.count >= names.count && zip(names, segments).allSatisfy { $0 == $1 || $0.hasPrefix("{") }
    }
}
