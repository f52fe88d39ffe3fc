import ArgumentParser
import Policy
import Primitives
import Settings

struct PolicyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "policy", abstract: "Look at the policies.", subcommands: [List.self, Check.self])

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List every rule with the expression in force; * marks those of the file.")
        @OptionGroup var options: ConfigurationOptions

        func run() throws {
            do {
                for rule in try PolicyCommand.files(options).load().expressions {
                    print("\(rule.isOverridden ? "*" : " ") \(rule.name): \(rule.text)")
                }
            } catch { Exit.fail(error, status: 1) }
        }
    }

    struct Check: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Check the policy file; what is a warning in the service's log is an error here.")
        @OptionGroup var options: ConfigurationOptions
        @Flag(help: "Say how long a check takes.") var time = false

        private struct Member: PolicyCredentials {
            var policyRoles: [String] { ["member", "reader"] }
            var policyServiceRoles: [String] { [] }
            var policyIsAdmin: Bool { false }
            func policyAttribute(_ name: String) -> String? { name == "project_id" ? "alpha" : name == "user_id" ? "alice" : nil }
        }

        func run() throws {
            do {
                let files = try PolicyCommand.files(options)
                let policies = try files.load()
                if time {
                    let count = 1_000_000
                    let started = Timestamp.monotonic()
                    var allowed = 0
                    for _ in 0..<count where policies.allows("volume:create", Member(), project: "alpha") { allowed += 1 }
                    print(
                        "a check takes \(((Timestamp.monotonic() - started) / Double(count) * 1e9).rounded()) ns (\(allowed) of \(count) allowed)"
                    )
                }
                let warnings = files.warnings(policies)
                if !warnings.isEmpty { throw SettingsError(warnings) }
                print("good: \(policies.expressions.count { $0.isOverridden }) of \(policies.expressions.count) rules come from the file")
            } catch { Exit.fail(error, status: 1) }
        }
    }

    private static func files(_ options: ConfigurationOptions) throws -> PolicyFiles {
        PolicyFiles(try options.settings(), beside: options.files)
    }
}
