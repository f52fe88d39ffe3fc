import ArgumentParser
import Glibc
import JSON
import Primitives

struct OperationCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "operation", abstract: "Look at the operations of the running service, and cancel them.",
        subcommands: [List.self, Show.self, Cancel.self, Watch.self])

    private static func text(_ value: JSON?) -> String { value?.string ?? (value == nil || value == .null ? "-" : value?.text ?? "") }
    private static func percent(_ operation: JSON) -> String {
        guard case .real(let fraction)? = operation["progress"] else { return "-" }
        return "\(Int(fraction * 100))%"
    }

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List operations, newest first.")
        @OptionGroup var options: ConfigurationOptions
        @Flag(help: "Finished ones too.") var all = false
        @Option(help: "Only those of this volume.") var resource: String?
        @Option(help: "How many.") var limit = 100
        @Flag(help: "Write JSON.") var json = false

        func run() throws {
            do {
                var target = "/v3/operations?all_tenants=1&limit=\(limit)" + (all ? "" : "&unfinished=1")
                if let resource { target += "&resource_id=\(resource)" }
                let answer = try ControlSocket.command(options, "GET", target)
                if json { return print(answer.text) }
                for operation in answer["operations"]?.array ?? [] {
                    print(
                        [
                            text(operation["id"]), text(operation["flow"]), text(operation["state"]), percent(operation),
                            text(operation["resource_id"]), text(operation["created_at"]), text(operation["error"]),
                        ].joined(separator: "\t"))
                }
            } catch { Exit.fail(error, status: 1) }
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Show an operation with its steps and the scheduler's verdicts.")
        @OptionGroup var options: ConfigurationOptions
        @Argument(help: "The operation's id.") var id: String
        @Flag(help: "Write JSON.") var json = false

        func run() throws {
            do {
                let answer = try ControlSocket.command(options, "GET", "/v3/operations/\(id)")
                if json { return print(answer.text) }
                let operation = answer["operation"] ?? .null
                for name in [
                    "id", "flow", "state", "resource_type", "resource_id", "project_id", "user_id", "request_id", "created_at",
                    "finished_at",
                    "attempts", "cancelled", "error",
                ] { print("\(name): \(text(operation[name]))") }
                print("progress: \(percent(operation))")
                for step in operation["steps"]?.array ?? [] {
                    print(
                        "step \(text(step["name"])): \(text(step["state"])), began \(text(step["started_at"])), took \(text(step["seconds"])) s"
                    )
                }
                for verdict in operation["verdicts"]?.array ?? [] {
                    let words = verdict["filter"].map { "refused by \(text($0)): \(text(verdict["reason"]))" }
                    print("pool \(text(verdict["pool"])): \(words ?? "weight \(text(verdict["weight"]))")")
                }
            } catch { Exit.fail(error, status: 1) }
        }
    }

    struct Cancel: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Have an operation taken back.")
        @OptionGroup var options: ConfigurationOptions
        @Argument(help: "The operation's id.") var id: String

        func run() throws {
            do { _ = try ControlSocket.command(options, "POST", "/v3/operations/\(id)/cancel") } catch { Exit.fail(error, status: 1) }
        }
    }

    struct Watch: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Follow what happens; ends when the operation named, if one is, has ended.",
            discussion: "Ends with status 1 if the operation named failed.")
        @OptionGroup var options: ConfigurationOptions
        @Argument(help: "The operation's id; without it, everything.") var id: String?

        private final class Follower: Sendable {
            let text = Guarded<[UInt8]>([])
            let outcome = Guarded<String?>(nil)
        }

        func run() throws {
            var failed = false
            do {
                var target = "/v3/events?all_tenants=1"
                if let id {
                    let operation = try ControlSocket.command(options, "GET", "/v3/operations/\(id)")["operation"] ?? .null
                    // From the beginning, so that no event is missed between the two requests.
                    target += "&last_event_id=0&resource_id=\(text(operation["resource_id"]))"
                }
                let follower = Follower()
                let id = id
                // The stream was ended on purpose.
                do {
                    _ = try ControlSocket.command(options, "GET", target, seconds: 0) { bytes in
                        let lines = follower.text.withLock { text -> [String] in
                            text += bytes
                            guard let end = text.lastIndex(of: 10) else { return [] }
                            defer { text.removeFirst(end + 1) }
                            return String(decoding: text[...end], as: UTF8.self).split(separator: "\n").map(String.init)
                        }
                        for line in lines where line.hasPrefix("data: ") {
                            guard let event = try? JSON(parsing: String(line.dropFirst(6))) else { continue }
                            if let id, event["operation_id"]?.string != id { continue }
                            print(
                                "\(text(event["time"]))\t\(text(event["kind"]))\t\(text(event["resource_id"]))\t\(event["data"]?.text ?? "")"
                            )
                            fflush(nil)
                            if id != nil, let kind = event["kind"]?.string, kind == "operation.done" || kind == "operation.failed" {
                                follower.outcome.withLock { $0 = kind }
                                return false
                            }
                        }
                        return true
                    }
                } catch { if follower.outcome.withLock({ $0 }) == nil { throw error } }
                failed = follower.outcome.withLock { $0 } == "operation.failed"
            } catch { Exit.fail(error, status: 2) }
            if failed { throw ExitCode(1) }
        }
    }
}
