import ArgumentParser
import JSON
import Primitives

struct ServiceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "service", abstract: "Look at the services of the running installation, empty them and forget them.",
        subcommands: [List.self, Drain.self, Remove.self])

    private static func text(_ value: JSON?) -> String { value?.string ?? "-" }

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List services with their state.")
        @OptionGroup var options: ConfigurationOptions
        @Flag(help: "Write JSON.") var json = false

        func run() throws {
            do {
                let answer = try ControlSocket.command(options, "GET", "/v3/os-services")
                if json { return print(answer.text) }
                for service in answer["services"]?.array ?? [] {
                    print(
                        ["binary", "host", "zone", "status", "state", "updated_at", "disabled_reason"].map { text(service[$0]) }
                            .joined(separator: "\t"))
                }
            } catch { Exit.fail(error, status: 1) }
        }
    }

    struct Drain: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Place nothing more on a backend, and wait until no operation works on it.",
            discussion: "Its volumes stay and can be used. `openstack volume service set --enable` ends it.")
        @OptionGroup var options: ConfigurationOptions
        @Argument(help: "node@backend") var host: String
        @Option(help: "Seconds to wait at most.") var timeout = 3600

        func run() throws {
            do {
                _ = try ControlSocket.command(
                    options, "PUT", "/v3/os-services/disable-log-reason",
                    ["binary": "cinder-volume", "host": .string(host), "disabled_reason": "draining"])
                let limit = Timestamp.monotonic() + Double(timeout)
                while true {
                    let left =
                        try ControlSocket.command(
                            options, "GET", "/v3/operations?all_tenants=1&unfinished=1&limit=1000&host=\(URLText.encoded(host))")[
                            "operations"]?.array ?? []
                    if left.isEmpty { return print("\(host) is drained") }
                    guard Timestamp.monotonic() < limit else { break }
                    pause(0.5)
                }
            } catch { Exit.fail(error, status: 2) }
            writeError("clinker: operations still work on \(host)")
            throw ExitCode(1)
        }
    }

    struct Remove: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Forget a service that is down and has no volumes.")
        @OptionGroup var options: ConfigurationOptions
        @Argument(help: "cinder-volume, cinder-scheduler or cinder-backup") var binary: String
        @Argument(help: "node or node@backend") var host: String

        func run() throws {
            do {
                _ = try ControlSocket.command(
                    options, "PUT", "/v3/os-services/remove", ["binary": .string(binary), "host": .string(host)])
            } catch { Exit.fail(error, status: 1) }
        }
    }
}
