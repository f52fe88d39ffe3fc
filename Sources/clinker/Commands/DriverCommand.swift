import ArgumentParser
import DriverHost
import Primitives

struct DriverCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "driver", abstract: "Look at driver plugins, and check them.",
        subcommands: [List.self, Show.self, DriverCheck.self, DriverNew.self, DriverServe.self])

    struct Directory: ParsableArguments {
        @Option(name: .customLong("plugin-directory"), help: "Directory of the plugins.")
        var path: String?
        var value: String { path ?? Plugin.defaultDirectory() }
    }

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List the plugins that can be used.")
        @OptionGroup var directory: Directory

        func run() throws {
            var failed = false
            do throws(PluginError) {
                for path in try Plugin.find(in: directory.value) {
                    do throws(PluginError) {
                        for plugin in try PluginLibrary(path: path).plugins() {
                            print("\(plugin.name)\t\(plugin.version)\t\(plugin.kind.rawValue)\t\(plugin.vendor)\t\(path)")
                        }
                    } catch {
                        failed = true
                        writeError("clinker: \(error)")
                    }
                }
            } catch { Exit.fail(error, status: 1) }
            if failed { throw ExitCode(1) }
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Show what a plugin is and which calls it serves itself.")
        @Argument(help: "A driver's name, or the path of a plugin.") var driver: String
        @OptionGroup var directory: Directory

        func run() throws {
            do throws(PluginError) {
                let plugins = try PluginLibrary(path: try Plugin.path(named: driver, in: directory.value)).plugins()
                for (index, plugin) in plugins.enumerated() {
                    if index > 0 { print("") }
                    print("name:    \(plugin.name)")
                    print("version: \(plugin.version)")
                    print("vendor:  \(plugin.vendor)")
                    print("kind:    \(plugin.kind.rawValue)")
                    print("abi:     \(plugin.abi)")
                    print("threads: \(plugin.isSerialized ? "serialized" : "parallel")")
                    print("path:    \(plugin.path)")
                    print("calls:   \(plugin.nativeCalls.joined(separator: " "))")
                }
            } catch { Exit.fail(error, status: 1) }
        }
    }
}
