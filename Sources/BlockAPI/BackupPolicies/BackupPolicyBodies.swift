import BlockStorage
import HTTPServer
import JSON

/// What creates and changes backup policies.
enum BackupPolicyBodies {
    /// A member of the body, and what it sets. The schema has checked the value; null asks for what is so without the member.
    private struct Member: Sendable {
        let name: String
        let schema: Schema
        let set: @Sendable (JSON, inout BackupPolicySettings) -> Void

        static func text(
            _ name: String, _ most: Int = 255, _ path: @escaping @Sendable () -> WritableKeyPath<BackupPolicySettings, String?>
        )
            -> Member
        {
            Member(name: name, schema: .string(1, most, nullable: true)) { $1[keyPath: path()] = $0.string }
        }

        static func count(
            _ name: String, _ range: ClosedRange<Int64>, _ path: @escaping @Sendable () -> WritableKeyPath<BackupPolicySettings, Int?>
        ) -> Member {
            Member(name: name, schema: Schema(kinds: [.integer, .null], minimum: range.lowerBound, maximum: range.upperBound)) {
                $1[keyPath: path()] = $0.integer.map { Int($0) }
            }
        }

        /// A number that is never missing.
        static func number(
            _ name: String, _ range: ClosedRange<Int64>, _ path: @escaping @Sendable () -> WritableKeyPath<BackupPolicySettings, Int>
        ) -> Member {
            Member(name: name, schema: Schema(kinds: [.integer, .null], minimum: range.lowerBound, maximum: range.upperBound)) {
                $1[keyPath: path()] = $0.integer.map { Int($0) } ?? BackupPolicySettings()[keyPath: path()]
            }
        }

        static func flag(_ name: String, _ path: @escaping @Sendable () -> WritableKeyPath<BackupPolicySettings, Bool>) -> Member {
            Member(name: name, schema: .optionalBoolean) {
                $1[keyPath: path()] = $0.lenientBool ?? BackupPolicySettings()[keyPath: path()]
            }
        }

        static func choice(
            _ name: String, _ choices: [String], isNullable: Bool = true,
            _ set: @escaping @Sendable (String?, inout BackupPolicySettings) -> Void
        ) -> Member {
            let schema = Schema(
                kinds: isNullable ? [.string, .null] : [.string],
                choices: choices.map { .string($0) } + (isNullable ? [.null] : []))
            return Member(name: name, schema: schema) { set($0.string, &$1) }
        }
    }

    private static let kept: ClosedRange<Int64> = 1...10_000

    private static let members: [Member] = [
        Member(name: "name", schema: .string(format: .trimmedName)) { $1.name = $0.trimmedString ?? "" },
        Member(name: "description", schema: .string(0, 255, nullable: true, format: .printable)) { $1.description = $0.string },
        .flag("enabled") { \.enabled },
        .flag("is_public") { \.isPublic },
        .choice("action", BackupPolicySettings.Action.allCases.map(\.rawValue), isNullable: false) {
            $1.action = $0.flatMap(BackupPolicySettings.Action.init) ?? .backup
        },
        .text("schedule") { \.schedule },
        Member(name: "timezone", schema: .string(1, 64, nullable: true)) { $1.timezone = $0.string ?? "UTC" },
        .number("jitter_seconds", 0...86_400) { \.jitterSeconds },
        .choice("missed", BackupPolicySettings.Missed.allCases.map(\.rawValue)) {
            $1.missed = $0.flatMap(BackupPolicySettings.Missed.init) ?? .runOnce
        },
        .choice("incremental", Retention.Increments.allCases.map(\.rawValue)) { $1.incremental = $0.flatMap(Retention.Increments.init) },
        .count("full_every", 1...1000) { \.fullEvery },
        .count("keep_last", kept) { \.keepLast },
        .count("keep_hourly", kept) { \.keepHourly },
        .count("keep_daily", kept) { \.keepDaily },
        .count("keep_weekly", kept) { \.keepWeekly },
        .count("keep_monthly", kept) { \.keepMonthly },
        .count("keep_yearly", kept) { \.keepYearly },
        .text("keep_within", 32) { \.keepWithin },
        .number("minimum_keep", kept) { \.minimumKeep },
        .number("max_parallel", 1...100) { \.maxParallel },
        .text("window_start", 5) { \.windowStart },
        .text("window_end", 5) { \.windowEnd },
        .text("container") { \.container },
        .text("availability_zone") { \.availabilityZone },
        .flag("verify_after") { \.verifyAfter },
        .text("verify_every", 32) { \.verifyEvery },
        .count("max_bytes_per_second", 65_536...1_099_511_627_776) { \.maxBytesPerSecond },
        .count("protect_days", 1...36_500) { \.protectDays },
        Member(name: "metadata", schema: .metadata(nullable: true)) { $1.metadata = $0.object ?? [:] },
    ]

    private static func body(required: [String]) -> Schema {
        .object(
            [
                (
                    "backup_policy",
                    .object(members.map { ($0.name, $0.schema) }, required: required)
                )
            ], required: ["backup_policy"])
    }

    static let creation = body(required: ["name", "action"])
    static let update = body(required: [])

    /// Sets what the body has.
    static func apply(_ request: APIRequest, to settings: inout BackupPolicySettings) throws {
        let body = request.body["backup_policy"]
        for member in members { if let value = body?[member.name] { member.set(value, &settings) } }
    }

    static let preview = Schema.object([("days", Schema(kinds: [.integer], minimum: 1, maximum: 366))])

    static let assignment = Schema.object(
        [
            (
                "assignment",
                .object(
                    [
                        ("target_type", .choice("volume", "type", "project")), ("target_id", .string(1, 255)),
                    ], required: ["target_type", "target_id"])
            )
        ], required: ["assignment"])
}
