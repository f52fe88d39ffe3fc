import ArgumentParser
import JSON
import Primitives

struct NotificationCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "notification", abstract: "Look at the notifications of the running installation.", subcommands: [Status.self])

    struct Status: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show how many wait, since when, and what the message broker does.",
            discussion: "Ends with status 1 while the broker takes none.")
        @OptionGroup var options: ConfigurationOptions
        @Flag(help: "Write JSON.") var json = false

        func run() throws {
            let status: JSON
            do { status = try ControlSocket.command(options, "GET", "/v3/notifications")["notifications"] ?? .null } catch {
                Exit.fail(error, status: 2)
            }
            if json { print(status.text) } else { for line in NotificationCommand.lines(of: status) { print(line) } }
            if ["failed", "blocked"].contains(status["broker"]?["state"]?.string) { throw ExitCode(1) }
        }
    }

    /// What the service says, for people.
    static func lines(of status: JSON) -> [String] {
        func number(_ name: String, _ value: JSON? = nil) -> Int64 { (value ?? status)[name]?.integer ?? 0 }
        let drivers = (status["drivers"]?.array ?? []).compactMap(\.string)
        guard !drivers.isEmpty else { return ["no notifications are sent: [oslo_messaging_notifications] driver is empty"] }
        let oldest = status["oldest"]?.string.map { ", the oldest since \($0)" } ?? ""
        var lines = [
            "drivers: \(drivers.joined(separator: ", "))",
            "waiting: \(number("waiting")) of at most \(number("limit"))\(oldest)",
            "since the start: \(number("sent")) sent, \(number("dropped")) dropped",
        ]
        if let broker = status["broker"], !broker.isNull {
            let host = broker["host"]?.string ?? ""
            let reason = broker["reason"]?.string ?? ""
            lines.append(
                "broker: \(broker["state"]?.string ?? "")\(host.isEmpty ? "" : " \(host)") since \(broker["since"]?.string ?? "")"
                    + (reason.isEmpty ? "" : ": \(reason)"))
            lines.append(
                "messages: \(number("confirmed", broker)) confirmed, \(number("refused", broker)) refused, "
                    + "\(number("returned", broker)) returned, over \(number("connections", broker)) connections")
        }
        return lines
    }
}
