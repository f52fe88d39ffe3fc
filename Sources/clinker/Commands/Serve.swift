import ArgumentParser
import Settings

struct Serve: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Run the service.")

    @OptionGroup var options: ConfigurationOptions

    @Flag(name: .customLong("insecure-noauth"), help: "Serve noauth, where everybody is admin, on other addresses than loopback too.")
    var insecureNoAuth = false

    func run() throws {
        do {
            try Supervisor(options: options, insecureNoAuth: insecureNoAuth).run()
        } catch {
            Exit.fail(error)
        }
    }
}
