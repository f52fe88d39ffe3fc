import ArgumentParser
import Primitives
import Settings

struct Config: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Look at the configuration.", subcommands: [Check.self, OptionsCommand.self, Sample.self])

    struct Check: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Check configuration files; unknown options are errors here.")
        @OptionGroup var options: ConfigurationOptions

        func run() throws {
            do throws(SettingsError) {
                let settings = try options.settings()
                let drivers = ConfigurationCheck.drivers(settings)
                // The user who checks a file need not be the one who runs the service.
                let problems = ConfigurationCheck.examine(options, settings, isOwned: false).problems + settings.unknown + drivers.problems
                for line in settings.notServed + drivers.notServed { writeError("clinker: warning: \(line)") }
                if !problems.isEmpty { throw SettingsError(problems) }
                print(
                    options.files.isEmpty
                        ? "no configuration file: the embedded default is in force" : "\(options.files.joined(separator: ", ")): good")
            } catch { Exit.fail(error, status: 1) }
        }
    }

    struct OptionsCommand: ParsableCommand {
        static let configuration = CommandConfiguration(commandName: "options", abstract: "List every option.")

        func run() {
            for option in OptionCatalogue.clinker.all {
                let limits = option.limits.isEmpty ? "" : " (\(option.limits))"
                print("[\(option.sectionName)] \(option.name) = \(option.defaultText)")
                print("    \(option.typeName)\(limits)\(option.isReloadable ? ", read again on SIGHUP" : ""). \(option.help)")
            }
        }
    }

    struct Sample: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Write a sample configuration file.")

        func run() {
            var sections: [String] = []
            for option in OptionCatalogue.clinker.all where !sections.contains(option.sectionName) { sections.append(option.sectionName) }
            for section in sections {
                let name = section == "<backend>" ? "file" : section == "<backup store>" ? "backups" : section
                print("[\(name)]")
                if section == "<backend>" { print("# The section of one backend; its name stands in enabled_backends.\n") }
                if section == "<backup store>" {
                    print(
                        "# The section of one store of backups; its name stands in enabled_backup_stores. [DEFAULT] may say these, too.\n")
                }
                for option in OptionCatalogue.clinker.all where option.sectionName == section {
                    print("# \(option.help)")
                    print("# \(option.typeName)\(option.limits.isEmpty ? "" : ", \(option.limits)")")
                    // Values of the embedded default are not commented out, so that the sample works as it is.
                    let said = ConfigurationOptions.embedded.first { $0.section == name && $0.name == option.name }
                    print(said.map { "\($0.name) = \($0.value)\n" } ?? "#\(option.name) = \(option.defaultText)\n")
                }
            }
        }
    }
}
