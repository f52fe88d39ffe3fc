public import DriverHost

/// What the verification of a backup, or a scrub, found.
public struct BackupVerdict: Sendable, Equatable {
    public struct Damage: Sendable, Equatable {
        /// Names the object.
        public var text: String
        /// The bytes of the volume that cannot be read, where they are known.
        public var range: Range<UInt64>?

        public init(_ text: String, _ range: Range<UInt64>? = nil) {
            self.text = text
            self.range = range
        }
    }

    /// Bytes that were read.
    public var checkedBytes: UInt64 = 0
    public var damages: [Damage] = []
    /// Other backups that use what is damaged, by their ids.
    public var users: [String] = []

    public init() {}

    /// What a backup has met with in its repository: snapshots of others that cannot be read.
    public init(lostSnapshots output: DriverValue) {
        users = (output["lost"]?.list ?? []).compactMap(\.string)
        damages = (output["unreadable"]?.list ?? []).compactMap(\.string).filter { $0.hasPrefix("snapshots/") }.map { Damage($0) }
    }

    var value: DriverValue {
        .members([
            "checked": .integer(Int64(clamping: checkedBytes)), "users": .list(users.map { .string($0) }),
            "damages": .list(
                damages.map { damage in
                    .members([
                        "text": .string(damage.text),
                        "start": damage.range.map { .integer(Int64(clamping: $0.lowerBound)) } ?? .null,
                        "end": damage.range.map { .integer(Int64(clamping: $0.upperBound)) } ?? .null,
                    ])
                }),
        ])
    }

    public init(_ value: DriverValue) {
        checkedBytes = UInt64(clamping: value["checked"]?.integer ?? 0)
        users = (value["users"]?.list ?? []).compactMap(\.string)
        damages = (value["damages"]?.list ?? []).map { damage in
            var range: Range<UInt64>?
            if let start = damage["start"]?.integer, let end = damage["end"]?.integer, 0 <= start, start <= end {
                range = UInt64(start)..<UInt64(end)
            }
            return Damage(damage["text"]?.string ?? "", range)
        }
    }
}
