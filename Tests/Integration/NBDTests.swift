import Glibc
import JSON
import Primitives
import Processes
import TestSupport
import Testing

/// `clinker driver serve`: a volume's bytes over NBD, as qemu-img reads and writes them.
@Suite("NBD", .serialized)
struct NBDTests {
    private let directory: String

    init() throws {
        directory = temporaryDirectory("nbd")
    }

    /// Serves a volume while the body runs.
    private func serving(_ arguments: [String], leavingSocket: Bool = false, _ body: (_ uri: String, _ socket: String) async throws -> Void)
        async throws
    {
        let socket = directory + "/socket"
        let pid = try spawn(ServiceUnderTest.binary, ["driver", "serve"] + arguments + ["--socket", socket], descriptors: [])
        defer {
            kill(pid, SIGKILL)
            reap(pid)
            if !leavingSocket { unlink(socket) }
        }
        for _ in 0..<500 {
            if let descriptor = try? Loopback.connect(path: socket) {
                close(descriptor)
                break
            }
            usleep(10_000)
        }
        try await body("nbd+unix:///?socket=\(socket)", socket)
    }

    private func shell(_ command: String) async throws -> String {
        let result = try await ServiceUnderTest.run("/bin/bash", ["-c", "set -e; cd \(directory); " + command])
        #expect(result.status == 0, "\(command): \(result.output)")
        return result.output
    }

    @Test("qemu-img writes an image into a volume and reads it back; holes stay holes on both ways")
    func images() async throws {
        _ = try await shell(
            """
            mkdir volumes; truncate -s 1G volumes/volume-x; qemu-img create -q -f qcow2 image 1G
            head -c 3000000 /dev/urandom > words; qemu-io -f qcow2 -c 'write -q -s words 7M 2M' -c 'write -q -P 9 900M 1M' image
            """)
        let file = ["file", "volume-x", "--set", "file_directory=\(directory)/volumes"]
        try await serving(file + ["--writable"]) { uri, _ in
            _ = try await shell("qemu-img convert -n -f qcow2 -O raw image '\(uri)'")
            _ = try await shell("qemu-img compare -s image '\(uri)'  || qemu-img compare image '\(uri)'")
            let map = try JSON(parsing: try await shell("qemu-img map --output=json '\(uri)'"))
            #expect(map.array?.contains { $0["zero"] == true && $0["length"]?.integer ?? 0 > 100 << 20 } == true, "\(map.text)")
        }
        _ = try await shell("cmp <(head -c 2097152 words) <(tail -c +$((7 * 1048576 + 1)) volumes/volume-x | head -c 2097152)")
        #expect(MoveTests.blocks(directory + "/volumes/volume-x") < 32_768)
        try await serving(file) { uri, _ in
            let refused = try await ServiceUnderTest.run("/bin/bash", ["-c", "qemu-io -f raw -c 'write 0 4k' '\(uri)'"])
            #expect(refused.output.contains("read-only") || refused.output.contains("Permission"), "\(refused.output)")
            _ = try await shell("qemu-img convert -f raw -O qcow2 '\(uri)' out && qemu-img compare image out")
        }
    }

    @Test("the sizes that a driver asks for are kept, whatever the client asks for")
    func sizes() async throws {
        let driver = try MutantTests.build(in: directory)
        _ = try await shell("mkdir volumes; truncate -s 64M volumes/volume-x; head -c 9000000 /dev/urandom > words")
        let subject = [
            driver, "volume-x", "--writable", "--set", "directory=\(directory)/volumes", "--set", "minimum=4096", "--set", "maximum=65536",
        ]
        try await serving(subject) { uri, _ in
            _ = try await shell("qemu-io -f raw -c 'write -q -s words 12288 9M' -c 'write -q -z 20M 4M' -c 'read -q 0 32M' '\(uri)'")
            _ = try await shell("qemu-img convert -f raw -O raw '\(uri)' here && cmp here volumes/volume-x")
        }
    }

    @Test("an image of rbd is served as librbd has it")
    func rbd() async throws {
        let ceph = try StorageUnderTest.ceph.get()
        let rbd = "rbd -c \(ceph.directory)/ceph.conf -p volumes"
        _ = try await shell("\(rbd) create volume-nbd --size 256M && \(rbd) bench --io-type write --io-size 1M --io-total 32M volume-nbd")
        let options = StorageUnderTest.arguments(try StorageUnderTest.rbdSection())
        try await serving([options[0], "volume-nbd"] + options.dropFirst()) { uri, _ in
            _ = try await shell("qemu-img convert -f raw -O raw '\(uri)' here && cmp here <(\(rbd) export volume-nbd - 2> /dev/null)")
        }
        _ = try await shell("\(rbd) rm volume-nbd")
    }

    @Test("a volume of many extents is described in one walk, bounded in each answer")
    func manyExtents() async throws {
        _ = try await shell("mkdir volumes; truncate -s 1G volumes/volume-x")
        let descriptor = open(directory + "/volumes/volume-x", O_WRONLY | O_CLOEXEC)
        var byte: UInt8 = 1
        for index in 0..<70_000 { pwrite(descriptor, &byte, 1, index * 12_288) }
        close(descriptor)
        try await serving(["file", "volume-x", "--set", "file_directory=\(directory)/volumes"]) { uri, _ in
            let map = try await shell("qemu-img map --output=json '\(uri)' | grep -c '\"data\": true'")
            #expect(Int(map.split(separator: "\n").first ?? "") == 70_000, "\(map)")
        }
    }

    @Test("nothing but a dead socket of one's own gives its path away")
    func sockets() async throws {
        _ = try await shell(
            "mkdir volumes; truncate -s 1M volumes/volume-x; echo precious > file; mkdir directory; ln -s file link; mkfifo pipe")
        func serve(_ socket: String) async throws -> (status: Int32, output: String) {
            try await ServiceUnderTest.run(
                ServiceUnderTest.binary,
                [
                    "driver", "serve", "file", "volume-x", "--set", "file_directory=\(directory)/volumes", "--socket",
                    directory + "/" + socket,
                ])
        }
        for name in ["file", "link", "directory", "pipe"] {
            let refused = try await serve(name)
            #expect(refused.status == 2 && refused.output.contains("no socket of this user"), "\(name): \(refused.output)")
        }
        #expect(try await shell("cat file link") == "precious\nprecious\n")
        for _ in 0..<2 {
            // The second time over the socket that the first, killed, left.
            try await serving(["file", "volume-x", "--set", "file_directory=\(directory)/volumes"], leavingSocket: true) { uri, _ in
                #expect(try await serve("socket").output.contains("somebody listens"))
                _ = try await shell("qemu-img info -f raw '\(uri)'")
            }
        }
    }

    @Test("a signal ends it: the client's writes are kept, the socket is gone", arguments: [SIGTERM, SIGINT])
    func signals(signal: Int32) async throws {
        _ = try await shell("mkdir volumes; truncate -s 1M volumes/volume-x")
        let socket = directory + "/socket"
        let pid = try spawn(
            ServiceUnderTest.binary,
            ["driver", "serve", "file", "volume-x", "--writable", "--set", "file_directory=\(directory)/volumes", "--socket", socket],
            descriptors: [])
        let limit = Timestamp.monotonic() + 20
        var client: Int32 = -1
        while client < 0, Timestamp.monotonic() < limit {
            client = (try? Loopback.connect(path: socket)) ?? -1
            if client < 0 { usleep(10_000) }
        }
        defer { close(client) }
        // It is served: it has said who it is.
        var greeting = [UInt8](repeating: 0, count: 8)
        #expect(recv(client, &greeting, 8, Int32(MSG_WAITALL)) == 8)
        kill(pid, signal)
        var status: Int32 = -1
        while waitpid(pid, &status, WNOHANG) == 0, Timestamp.monotonic() < limit { usleep(10_000) }
        #expect(status == 0)
        #expect(access(socket, F_OK) != 0)
    }

    @Test("what breaks the protocol is answered or let go, and the next client is served")
    func nonsense() async throws {
        _ = try await shell("mkdir volumes; truncate -s 64M volumes/volume-x")
        try await serving(["file", "volume-x", "--writable", "--set", "file_directory=\(directory)/volumes"]) { uri, socket in
            let script = """
                import os, random, socket, struct
                path = "\(socket)"
                def client():
                    found = socket.socket(socket.AF_UNIX)
                    found.settimeout(5)
                    found.connect(path)
                    assert found.recv(18)[:8] == b"NBDMAGIC"
                    return found
                def option(connection, number, data=b""):
                    connection.sendall(b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data)
                def started():
                    connection = client()
                    connection.sendall(struct.pack(">I", 3))
                    option(connection, 1)
                    assert connection.recv(10) == struct.pack(">QH", 64 << 20, 0x6D)
                    return connection
                random.seed(1)
                for length in (0, 1, 3, 4, 16, 100):
                    connection = client()
                    connection.sendall(random.randbytes(length))
                    connection.close()
                for number, data in ((99, b""), (7, b""), (7, b"\\xff" * 6), (10, b"\\xff" * 8), (10, struct.pack(">I", 0) + struct.pack(">I", 9)), (5, b"")):
                    connection = client()
                    connection.sendall(struct.pack(">I", 3))
                    option(connection, number, data)
                    answer = connection.recv(20)
                    assert len(answer) == 20 and struct.unpack(">I", answer[12:16])[0] >> 31 == 1, (number, answer)
                    connection.close()
                for command, offset, length, problem in (
                        (0, 64 << 20, 512, 22), (0, 0, 0, 22), (0, 0, 0xFFFFFFFF, 22), (0, 0xFFFFFFFFFFFFFFFF, 1, 22), (99, 0, 1, 22), (7, 0, 512, 22),
                        (6, 64 << 20, 1, 22), (4, 1 << 63, 1, 22)):
                    connection = started()
                    connection.sendall(struct.pack(">IHHQQI", 0x25609513, 0, command, 7, offset, length))
                    answer = connection.recv(16)
                    assert answer == struct.pack(">IIQ", 0x67446698, problem, 7), (command, offset, length, answer)
                    connection.close()
                connection = started()
                connection.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 1, 7, 0, 0xFFFFFFFF))
                assert connection.recv(16) == b""
                for _ in range(200):
                    connection = started()
                    connection.sendall(random.randbytes(28))
                    connection.close()
                """
            try ServiceUnderTest.write(directory + "/nonsense.py", script)
            #expect(try await shell("python3 nonsense.py") == "")
            _ = try await shell("qemu-img convert -f raw -O raw '\(uri)' here && cmp here volumes/volume-x")
        }
    }
}
