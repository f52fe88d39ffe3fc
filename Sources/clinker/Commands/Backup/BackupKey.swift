import ArgumentParser
import Glibc
import JSON
import Primitives
import Settings

/// The keys of a project's repository.
struct BackupKey: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "key", abstract: "List, add and remove the keys that open a repository.",
        subcommands: [List.self, Add.self, Remove.self])

    /// Which repository.
    struct Place: ParsableArguments {
        @ArgumentParser.Option(help: "The project whose repository it is.") var project: String
        @ArgumentParser.Option(help: "The store; it may be left out where there is one.") var store: String?

        var query: String { "project_id=\(URLText.encoded(project))" + (store.map { "&store=\(URLText.encoded($0))" } ?? "") }
    }

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List the keys; * marks the service's own.")
        @OptionGroup var options: ConfigurationOptions
        @OptionGroup var place: Place
        @Flag(help: "Write JSON.") var json = false

        func run() throws {
            do {
                let answer = try ControlSocket.command(options, "GET", "/v3/backup-repositories/keys?\(place.query)")
                if json { return print(answer.text) }
                for key in answer["keys"]?.array ?? [] {
                    let mark = key["is_service"] == true ? "*" : " "
                    print(mark + " " + ["id", "created_at", "user", "host"].map { BackupCommand.text(key[$0]) }.joined(separator: "\t"))
                }
            } catch { Exit.fail(error, status: 1) }
        }
    }

    struct Add: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Add a key, whose passphrase is read from the standard input or a file.",
            discussion: "With it restic opens the repository. The passphrase is the first line, without its end.")
        @OptionGroup var options: ConfigurationOptions
        @OptionGroup var place: Place
        @ArgumentParser.Option(help: "The file with the passphrase; without it, the standard input.") var file: String?

        func run() throws {
            do {
                let passphrase = try Passphrase.read(file)
                let key: JSON = [
                    "project_id": .string(place.project), "store": JSON(place.store), "passphrase": .string(passphrase.reveal()),
                ]
                let answer = try ControlSocket.command(options, "POST", "/v3/backup-repositories/keys", ["key": key])
                print(BackupCommand.text(answer["key"]?["id"]))
            } catch { Exit.fail(error, status: 1) }
        }
    }

    struct Remove: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Remove a key: its passphrase opens the repository no more.",
            discussion: "The service's own key stays. Who has copied the key's file before can still open it with the passphrase.")
        @OptionGroup var options: ConfigurationOptions
        @OptionGroup var place: Place
        @Argument(help: "The key's id.") var id: String

        func run() throws {
            do {
                _ = try ControlSocket.command(
                    options, "DELETE", "/v3/backup-repositories/keys/\(URLText.encoded(id))?\(place.query)")
            } catch { Exit.fail(error, status: 1) }
        }
    }
}

/// A passphrase that somebody types, or that a file holds.
private enum Passphrase {
    private static let longest = 1024

    static func read(_ file: String?) throws -> Secret {
        let descriptor = try file.map { path in
            let descriptor = open(path, O_RDONLY | O_CLOEXEC)
            guard descriptor >= 0 else { throw SystemError.last("cannot open \(path)") }
            return descriptor
        }
        defer { if let descriptor { close(descriptor) } }
        let text = try withoutEcho(descriptor ?? 0) { try line(descriptor ?? 0) }
        guard !text.isEmpty else { throw SettingsError(["the passphrase is empty"]) }
        guard let text = String(validating: text, as: UTF8.self) else { throw SettingsError(["the passphrase is no UTF-8 text"]) }
        return Secret(text)
    }

    /// The first line.
    private static func line(_ descriptor: Int32) throws -> [UInt8] {
        var bytes: [UInt8] = []
        var byte: UInt8 = 0
        while true {
            let count = Glibc.read(descriptor, &byte, 1)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw SystemError.last("the passphrase cannot be read") }
            guard count == 1, byte != UInt8(ascii: "\n") else { break }
            bytes.append(byte)
            guard bytes.count <= longest else { throw SettingsError(["the passphrase has more than \(longest) bytes"]) }
        }
        if bytes.last == UInt8(ascii: "\r") { bytes.removeLast() }
        return bytes
    }

    /// A terminal does not show what is typed.
    private static func withoutEcho<T>(_ descriptor: Int32, _ body: () throws -> T) throws -> T {
        var before = termios()
        guard isatty(descriptor) == 1, tcgetattr(descriptor, &before) == 0 else { return try body() }
        writeError("passphrase:")
        var silent = before
        silent.c_lflag &= ~tcflag_t(ECHO)
        tcsetattr(descriptor, TCSAFLUSH, &silent)
        defer { tcsetattr(descriptor, TCSAFLUSH, &before) }
        return try body()
    }
}
