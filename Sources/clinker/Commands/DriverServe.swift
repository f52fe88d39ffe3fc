import ArgumentParser
import DriverHost
import Glibc
import Processes
import Settings
import Transfers

/// Serves a volume over NBD on a Unix socket.
struct DriverServe: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Serve a volume of a driver over NBD, for qemu-img and its kin.",
        discussion: "The volume must not be in use. qemu-img takes it as nbd+unix:///?socket=PATH.")

    @OptionGroup var subject: PluginArguments
    @Argument(help: "The name of the volume in the storage.") var volume: String
    @ArgumentParser.Option(help: "The socket to listen on.") var socket: String
    @ArgumentParser.Option(help: "The private text that the driver gave the volume.") var data: String?
    @ArgumentParser.Option(help: "Serve this snapshot of the volume.") var snapshot: String?
    @Flag(help: "Let clients write.") var writable = false
    @ArgumentParser.Option(help: "End after so many clients; 0: never.") var clients = 0

    func run() throws {
        do {
            let signals = SignalWait.blockSignals()
            let plugin = try Plugin(path: subject.path())
            try subject.check(plugin)
            let driver = try Driver(plugin, options: subject.values())
            var object = [
                DriverValue.Member(
                    "volume",
                    .members([
                        "id": .string(volume.hasPrefix("volume-") ? String(volume.dropFirst(7)) : volume), "name": .string(volume),
                        "data": .optional(data),
                    ]))
            ]
            if let snapshot {
                let id = snapshot.hasPrefix("snapshot-") ? String(snapshot.dropFirst(9)) : snapshot
                object.append(DriverValue.Member("snapshot", .members(["id": .string(id), "name": .string(snapshot)])))
            }
            let isWritable = writable && snapshot == nil
            try driver.withHandle(.object(object), writable: isWritable) { handle in
                let server = try NBDServer(handle, writable: isWritable)
                let listener = try UnixSocket.listen(socket)
                defer {
                    close(listener)
                    unlink(socket)
                }
                SignalWait.onSignal(signals, end: server.end, socket)
                print("serving \(volume) at nbd+unix:///?socket=\(socket)")
                fflush(nil)
                server.serve(listener, clients: clients)
            }
        } catch { Exit.fail(error, status: 2) }
    }
}
