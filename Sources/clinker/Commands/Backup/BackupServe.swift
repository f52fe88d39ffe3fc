import ArgumentParser
import BlockStorage
import Database
import Flows
import Glibc
import JSON
import Observability
import Primitives
import Processes
import Settings
import Transfers

/// Serves a backup over NBD on a Unix socket.
struct BackupServe: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Serve a backup over NBD, to be read without restoring it.",
        discussion: """
            Ends at a signal. What is read is verified first: a damaged range gives an I/O error, and a line says which object is damaged. \
            qemu-img and nbdcopy take it as nbd+unix:///?socket=PATH; the service may be running.
            """)

    @OptionGroup var options: ConfigurationOptions
    @Argument(help: "The backup's id.") var id: String
    @ArgumentParser.Option(help: "The socket to listen on.") var socket: String

    func run() throws {
        do {
            let signals = SignalWait.blockSignals()
            let settings = try options.settings()
            let directory = try options.existingStateDirectory(settings)
            let path = "/v3/backups/\(URLText.encoded(id))/layout"
            let layout = try ControlSocket.ask("GET", path, stateDirectory: directory)?["layout"] ?? readLayout()
            let log = try CoreProcess.logSink(settings).logger("backup")
            let reading = try BackupReading(layout: layout, settings: settings, stateDirectory: directory, log: log)
            let server = try BackupServer(reading.order, plugin: reading.plugin, options: reading.options) {
                writeError("clinker: \($0)")
            }
            let listener = try UnixSocket.listen(socket)
            defer {
                close(listener)
                unlink(socket)
            }
            SignalWait.onSignal(signals, end: server.end, socket)
            print("serving \(id) at nbd+unix:///?socket=\(socket)")
            fflush(nil)
            server.serve(listener)
        } catch { Exit.fail(error, status: 2) }
    }

    /// The same from the database where no service runs.
    private func readLayout() throws -> JSON {
        let path = try options.databasePath()
        guard access(path, F_OK) == 0 else { throw SettingsError(["\(path) does not exist: no service ever ran here"]) }
        let database = try SQLiteDatabase(path: path)
        defer { database.close() }
        do { return try database.readBlocking { [id] in try BackupLayout.describe(Backups.chain(id, in: $0)) } } catch let error
            as StorageError
        { throw SettingsError([error.message]) }
    }
}
