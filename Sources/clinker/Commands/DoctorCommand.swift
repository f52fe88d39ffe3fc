import ArgumentParser
import BlockStorage
import Flows
import JSON
import Primitives
import Settings

struct DoctorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor", abstract: "Compare database, operation log and backends; the service may be running.",
        discussion: "Ends with status 1 while something is left that needs attention.")

    @OptionGroup var options: ConfigurationOptions
    @Flag(help: "Repair what can be repaired safely, and say what was done.") var repair = false
    @Flag(help: "Write the report as JSON.") var json = false

    func run() throws {
        let report: JSON
        do {
            let directory = try options.existingStateDirectory(options.settings())
            let body: JSON = ["doctor": ["repair": .bool(repair)]]
            report =
                try ControlSocket.ask("POST", "/v3/doctor", body, stateDirectory: directory)
                ?? CoreProcess.examineAlone(options, stateDirectory: directory, repair: repair)
        } catch { Exit.fail(error, status: 2) }
        let findings = report["doctor"]?["findings"]?.array ?? []
        if json { print(report.text) } else { show(report["doctor"] ?? .null, findings) }
        if findings.contains(where: { $0["outcome"] == .null }) { throw ExitCode(1) }
    }

    /// What is told of notifications: nothing where none are sent and none wait.
    static func line(of notifications: JSON) -> String? {
        let waiting = notifications["waiting"]?.integer ?? 0
        let areSent = notifications["areSent"]?.bool ?? false
        guard areSent || waiting > 0 else { return nil }
        let since = notifications["oldest"]?.string.map { ", the oldest since \($0)" } ?? ""
        guard areSent else { return "notifications: \(waiting) wait\(since); none are sent now" }
        guard let broker = notifications["broker"], !broker.isNull else { return "notifications: \(waiting) wait\(since)" }
        let reason = broker["reason"]?.string ?? ""
        return "notifications: \(waiting) wait\(since); broker \(broker["state"]?.string ?? "")"
            + (broker["since"]?.string.map { " since \($0)" } ?? "") + (reason.isEmpty ? "" : ": \(reason)")
    }

    private func show(_ doctor: JSON, _ findings: [JSON]) {
        let examined = doctor["examined"]
        func count(_ name: String) -> Int64 { examined?[name]?.integer ?? 0 }
        print("examined: \(count("volumes")) volumes, \(count("attachments")) attachments, \(count("operations")) unfinished operations")
        for backend in examined?["backends"]?.array ?? [] {
            let objects = backend["objects"]?.integer.map { "\($0) objects" } ?? "could not be asked"
            print("backend \(backend["host"]?.string ?? ""): \(objects)")
        }
        if let notifications = examined?["notifications"], let line = Self.line(of: notifications) { print(line) }
        for finding in findings {
            print("\(finding["kind"]?.string ?? ""): \(finding["text"]?.string ?? "")")
            if let outcome = finding["outcome"]?.string {
                print("    repaired: \(outcome)")
            } else if let advice = finding["advice"]?.string {
                print("    \(advice)")
            } else if finding["repairable"]?.bool == true {
                print("    can be repaired with --repair")
            }
        }
        let left = findings.count { $0["outcome"] == .null }
        print(findings.isEmpty ? "nothing wrong" : "\(findings.count) found, \(findings.count - left) repaired, \(left) left")
    }
}
