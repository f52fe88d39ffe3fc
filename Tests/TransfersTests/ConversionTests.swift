import DriverHost
import Glibc
import ImageFormats
import Primitives
import Processes
import TestSupport
import Testing

@testable import Transfers

@Suite("Images that qemu-img converts", .serialized)
struct ConversionTests {
    private let test: ImageUnderTest

    init() throws { test = try ImageUnderTest() }

    private static let formats: [(format: ImageFormat, options: String)] = [
        (.qcow2, ""), (.qcow2, "-c"), (.vmdk, "-o subformat=streamOptimized"), (.vmdk, ""), (.vdi, ""), (.vhdx, ""),
        (.vhd, "-o force_size=on"), (.vhd, "-o force_size=on,subformat=fixed"), (.ploop, ""),
    ]

    private func serve(_ path: String) throws -> (server: ImageServer, bytes: [UInt8]) {
        let bytes = try ImageUnderTest.bytes(test.directory + "/" + path)
        return (try ImageServer { ImageServer.data(bytes, $1) }, bytes)
    }

    @Test("Every format becomes the disk that it describes, and nothing is left in the directory for conversions", arguments: formats)
    func fetched(format: ImageFormat, options: String) throws {
        let driver = try #require(format.driver)
        _ = try test.shell(
            "head -c 3000000 /dev/urandom > raw; truncate -s 16M raw; qemu-img convert -f raw -O \(driver) \(options) raw image")
        let (server, bytes) = try serve("image")
        var order = test.order([server], format.rawValue, size: bytes.count)
        order.md5 = try ImageUnderTest.hash("md5", bytes)
        let result = try test.fetch(order)
        #expect(result["virtual_size"]?.integer == 16 << 20 && result["format"]?.string == format.rawValue)
        #expect(result["bytes"]?.integer == Int64(bytes.count))
        #expect(try test.read(16 << 20) == ImageUnderTest.bytes(test.directory + "/raw"))
        #expect(test.allocated < 6 << 20)
        #expect(entries(of: test.directory + "/conversion").isEmpty)
    }

    @Test("An image replaces what was there, to the volume's end")
    func overwritten() throws {
        try test.write([UInt8](repeating: 9, count: 4 << 20))
        _ = try test.shell("head -c 100000 /dev/urandom > raw; truncate -s 1M raw; qemu-img convert -f raw -O qcow2 raw image")
        let (server, bytes) = try serve("image")
        var order = test.order([server], "qcow2", size: bytes.count)
        order.targetIsZero = false
        try test.fetch(order)
        #expect(try test.read(1 << 20) == ImageUnderTest.bytes(test.directory + "/raw"))
        #expect(try test.read(3 << 20, at: 1 << 20).allSatisfy { $0 == 0 })
    }

    @Test("A disk that is larger than the volume, a backing file, and a wrong checksum are found before qemu-img sees the file")
    func refused() throws {
        _ = try test.shell(
            "qemu-img create -q -f qcow2 large 2G; qemu-img create -q -f raw base 1M; qemu-img create -q -f qcow2 -b base -F raw backed")
        for (name, words) in [("large", "virtual size is 2147483648 bytes"), ("backed", "backing file")] {
            let (server, bytes) = try serve(name)
            let failure = try #require(test.failure(test.order([server], "qcow2", size: bytes.count)))
            #expect(failure.code == .invalid && failure.message.contains(words), "\(failure)")
        }
        let (server, bytes) = try serve("backed")
        var order = test.order([server], "qcow2", size: bytes.count)
        order.md5 = String(repeating: "0", count: 32)
        #expect(test.failure(order)?.message.contains("checksum") == true)
        #expect(test.allocated == 0)
    }

    /// A file of some kilobytes, each of whose 16,384 clusters is the same compressed one.
    private func bomb() throws -> [UInt8] {
        _ = try test.shell(
            """
            truncate -s 1G raw; seq 100000 112000 | head -c 65536 > text
            dd if=text of=raw conv=notrunc status=none; dd if=text of=raw bs=1M seek=512 conv=notrunc status=none
            qemu-img convert -c -f raw -O qcow2 raw bomb; rm raw
            """)
        var bytes = try ImageUnderTest.bytes(test.directory + "/bomb")
        func number(_ offset: Int) -> Int { bytes[offset..<(offset + 8)].reduce(0) { $0 << 8 | Int($1) } & 0x3FFF_FFFF_FFFF_FFFF }
        let tables = [0, 8].map { number(number(40) + $0) }
        let entry = Array(bytes[tables[0]..<(tables[0] + 8)])
        try #require(entry[0] & 0x40 != 0)
        for table in tables {
            for index in 0..<8192 { bytes.replaceSubrange((table + index * 8)..<(table + index * 8 + 8), with: entry) }
        }
        return bytes
    }

    @Test("Too little memory, too little CPU time and a full directory are named")
    func limits() throws {
        _ = try test.shell("head -c 60000000 /dev/urandom > raw; qemu-img convert -f raw -O qcow2 raw image")
        let (server, bytes) = try serve("image")
        var order = test.order([server], "qcow2", size: bytes.count)
        order.conversionAddressSpace = 64 << 20
        let failure = try #require(test.failure(order))
        #expect(failure.message.contains("memory") || failure.message.contains("qemu-img cannot"), "\(failure)")
        let bomb = try self.bomb()
        let packer = try ImageServer { ImageServer.data(bomb, $1) }
        order = test.order([packer], "qcow2", size: bomb.count)
        order.conversionSeconds = 1
        #expect(test.failure(order)?.message.contains("image_conversion_cpu_limit") == true)
        order = test.order([server], "qcow2", size: Int.max)
        order.conversionDirectory = test.directory + "/conversion"
        let full = try #require(test.failure(order))
        #expect(full.code == .noSpace && full.message.contains("image_conversion_dir"), "\(full)")
    }

    @Test("qemu-img opens our file and its libraries, and connects to nothing, even where an image names other files")
    func watched() throws {
        _ = try test.shell(
            """
            head -c 1000000 /dev/urandom > secret; truncate -s 1M secret
            qemu-img create -q -f qcow2 -b \(test.directory)/secret -F raw image; qemu-io -f qcow2 -c 'write -q -P 3 512k 64k' image
            """)
        let order = test.order([try ImageServer { _, _ in .init(status: 404) }], "qcow2")
        let file = try ConversionFile(in: order.conversionDirectory, bytes: 0)
        try ImageUnderTest.bytes(test.directory + "/image").withUnsafeBytes { try file.write($0, at: 0) }
        let (mine, theirs) = try socketPair()
        let report = ImageReport(Wire(mine))
        close(theirs)
        let trace = test.directory + "/trace"
        var converter = QemuImg(order: order, report: report)
        converter.tracer = ["/usr/bin/strace", "-f", "-qq", "-o", trace, "-e", "trace=open,openat,openat2,connect,bind,creat,execve"]
        try test.withHandle(writable: true) { try converter.convert(file, .qcow2, into: $0) }
        // What the image did not hold itself reads as zeroes.
        #expect(try test.read(1 << 19).allSatisfy { $0 == 0 })
        #expect(try test.read(1 << 16, at: 1 << 19).allSatisfy { $0 == 3 })
        let lines = String(decoding: try ImageUnderTest.bytes(trace), as: UTF8.self).split(separator: "\n")
        let opened = lines.filter { !$0.contains(" = -1 ") && $0.contains("\"") }.map { String($0.split(separator: "\"")[1]) }
        #expect(opened.contains("/proc/self/fd/3"))
        let own = [
            "/usr/bin/", "/lib/", "/usr/lib/", "/etc/ld.so", "/etc/ssl/", "/etc/gnutls", "/usr/share/locale", "/proc/", "/sys/",
            "/dev/null",
            "/dev/urandom",
        ]
        let others = Set(opened.filter { path in !own.contains { path.hasPrefix($0) } })
        #expect(others.isEmpty, "\(others)")
        #expect(!lines.contains { $0.contains("connect(") || $0.contains("bind(") })
    }

    @Test("A volume is stored as raw: in chunks, with its hash, anew after a failure or with a new token")
    func storedRaw() throws {
        let data = ImageUnderTest.data(3 << 20)
        try test.shrink()
        try test.write(data, at: 5 << 20)
        let server = try ImageServer { number, _ in .init(status: number == 1 ? 503 : number == 2 ? 401 : 204) }
        let result = try test.store(test.order([server]), tokens: ["second"])
        let got = server.requests[2]
        #expect(got.method == "PUT" && got.headers["transfer-encoding"] == "chunked" && got.headers["x-auth-token"] == "second")
        #expect(got.headers["content-type"] == "application/octet-stream")
        #expect(got.body.count == 64 << 20 && Array(got.body[(5 << 20)..<(8 << 20)]) == data)
        #expect(result["md5"]?.string == (try ImageUnderTest.hash("md5", got.body)) && result["bytes"]?.integer == 64 << 20)
    }

    /// A server that is not heard when it has the data, and says next time that it has some; `state` is what it then says of the image.
    private func forgetful(_ format: ImageFormat, _ state: @escaping @Sendable (_ question: Int, _ data: [UInt8]) -> String) throws
        -> ImageServer
    {
        let data = Guarded<[UInt8]?>(nil)
        let questions = Guarded(0)
        let box = Guarded<ImageServer?>(nil)
        let server = try ImageServer { number, request in
            guard request.method == "PUT" else {
                if data.withLock({ $0 }) == nil { data.withLock { $0 = box.withLock { $0 }?.requests[0].body } }
                let question = questions.withLock { questions in
                    questions += 1
                    return questions
                }
                return .init(body: Array(state(question, data.withLock { $0 } ?? []).utf8))
            }
            return number == 1 ? .init(isLost: true) : .init(status: 409)
        }
        box.withLock { $0 = server }
        return server
    }

    private static func active(_ data: [UInt8], checksum: String? = nil) -> String {
        let known = checksum ?? (try? ImageUnderTest.hash("md5", data)) ?? ""
        return #"{"status": "active", "size": \#(data.count), "checksum": "\#(known)"}"#
    }

    @Test(
        "Data whose answer was lost are stored when the image says so, and another image's data are not",
        arguments: [ImageFormat.raw, .qcow2])
    func lostAnswer(format: ImageFormat) throws {
        let data = ImageUnderTest.data(1 << 20)
        try test.shrink(toMebibytes: 4)
        try test.write(data, at: 2 << 20)
        let server = try forgetful(format) { $0 == 1 ? #"{"status": "saving"}"# : Self.active($1) }
        let result = try test.store(test.order([server], format.rawValue))
        #expect(server.requests.map(\.method) == ["PUT", "GET", "GET"])
        #expect(server.requests[1].target == "/v2/images/\(ImageUnderTest.id)")
        #expect(result["md5"]?.string == (try ImageUnderTest.hash("md5", server.requests[0].body)))
        let other = try forgetful(format) { Self.active($1, checksum: String(repeating: "0", count: 32)) }
        let failure = #expect(throws: DriverFailure.self) { try test.store(test.order([other], format.rawValue)) }
        #expect(failure?.message.contains("not those of the volume") == true)
    }

    @Test("What an earlier process has sent is not sent again; what the service lost is")
    func sentBefore() throws {
        try test.shrink(toMebibytes: 4)
        try test.write(ImageUnderTest.data(1 << 20))
        let whole = try test.read(4 << 20)
        let server = try ImageServer { _, request in
            request.method == "PUT" ? .init(status: 409) : .init(body: Array(Self.active(whole).utf8))
        }
        #expect(try test.store(test.order([server]))["bytes"]?.integer == 4 << 20)
        let empty = try ImageServer { number, request in
            request.method == "PUT"
                ? (number == 1 ? .init(status: 409) : .init(status: 204)) : .init(body: Array(#"{"status": "queued"}"#.utf8))
        }
        try test.store(test.order([empty]))
        #expect(empty.requests.map(\.method) == ["PUT", "GET", "PUT"] && empty.requests[2].body == whole)
    }

    @Test("The limit of bytes for each second binds what is sent, and what qemu-img reads and writes")
    func limited() throws {
        try test.shrink(toMebibytes: 4)
        try test.write(ImageUnderTest.data(2 << 20))
        let server = try ImageServer { _, _ in .init(status: 204) }
        var order = test.order([server])
        // Never faster, on whatever machine.
        #expect(try #require(test.store(order, bytesPerSecond: 4 << 20)["seconds"]?.real) >= 0.9)
        order = test.order([server], "qcow2")
        #expect(try #require(test.store(order, bytesPerSecond: 2 << 20)["seconds"]?.real) >= 0.9)
        let body = server.requests[1].body
        let again = try ImageServer { ImageServer.data(body, $1) }
        order = test.order([again], "qcow2", size: body.count)
        #expect(try #require(test.fetch(order, bytesPerSecond: 2 << 20)["seconds"]?.real) >= 1.8)
    }

    @Test("A machine that lets qemu-img begin late makes no bad image of a good one")
    func starved() throws {
        _ = try test.shell("head -c 1000000 /dev/urandom > raw; truncate -s 1M raw; qemu-img convert -f raw -O qcow2 raw image")
        var order = test.order([try ImageServer { _, _ in .init(status: 404) }], "qcow2")
        order.timeout = 60
        let file = try ConversionFile(in: order.conversionDirectory, bytes: 0)
        try ImageUnderTest.bytes(test.directory + "/image").withUnsafeBytes { try file.write($0, at: 0) }
        let (mine, theirs) = try socketPair()
        let report = ImageReport(Wire(mine))
        close(theirs)
        var converter = QemuImg(order: order, report: report)
        converter.tracer = ["/bin/sh", "-c", "sleep 11; exec \"$@\"", "sh"]
        try test.withHandle(writable: true) { try converter.convert(file, .qcow2, into: $0) }
        #expect(try test.read(1 << 20) == ImageUnderTest.bytes(test.directory + "/raw"))
        // One that never begins is tried again: nothing is said of the image by that.
        order.timeout = 1
        converter = QemuImg(order: order, report: report)
        converter.tracer = ["/bin/sh", "-c", "exec sleep 1000", "sh"]
        let failure = #expect(throws: DriverFailure.self) {
            try test.withHandle(writable: true) { try converter.convert(file, .qcow2, into: $0) }
        }
        #expect(failure?.code == .retry && failure?.message.contains("got nowhere") == true)
    }

    @Test("What encrypting takes of the processor's time is not counted as conversion")
    func encryptionTime() throws {
        let data = ImageUnderTest.data(1 << 20)
        var order = test.order([try ImageServer { _, _ in .init(status: 404) }], "raw")
        order.conversionSeconds = 1
        order.volumeBytes = 1 << 40
        let luks = LUKSOrder(try #require(LUKSFormat(cipher: nil, keySize: nil)), passphrase: Secret("word"))
        let file = try ConversionFile(in: order.conversionDirectory, bytes: 0)
        try data.withUnsafeBytes { try file.write($0, at: 0) }
        func limit(_ order: ImageOrder) throws -> Int {
            let (mine, theirs) = try socketPair()
            defer { close(theirs) }
            var converter = QemuImg(order: order, report: ImageReport(Wire(mine)))
            converter.tracer = ["/bin/sh", "-c", "echo \"$*\" > \(test.directory)/words; exec \"$@\"", "sh"]
            try test.withHandle(writable: true) { handle in
                try order.encryption?.prepare(handle)
                try converter.convert(file, .raw, into: handle)
            }
            let words = String(decoding: try ImageUnderTest.bytes(test.directory + "/words"), as: UTF8.self)
            let option = try #require(words.split(separator: " ").first { $0.hasPrefix("--cpu=") })
            return try #require(option.dropFirst("--cpu=".count).split(separator: ":").first.flatMap { Int($0) })
        }
        #expect(try limit(order) == 1)
        order.encryption = luks
        // No slower than 16 MiB a second.
        #expect(try limit(order) > 60_000)
    }

    @Test("qemu-img gets nothing of the service's environment, and its limits, whatever it is started for")
    func started() throws {
        setenv("CLINKER_TEST_SECRET", "secret", 1)
        defer { unsetenv("CLINKER_TEST_SECRET") }
        var limits = QemuProgram.Limits()
        limits.fileBytes = 1 << 20
        var program = QemuProgram(limits)
        program.tracer = ["/bin/sh", "-c", "env > \(test.directory)/env; exec \"$@\"", "sh"]
        #expect(reap(try program.start(["create", "-q", "-f", "qcow2", test.directory + "/small", "1G"], descriptors: [])) == 0)
        let environment = String(decoding: try ImageUnderTest.bytes(test.directory + "/env"), as: UTF8.self)
        #expect(environment.contains("MALLOC_ARENA_MAX=4") && !environment.contains("CLINKER_TEST_SECRET"))
        // More than the limit of a file's size.
        #expect(
            reap(
                try program.start(
                    ["create", "-q", "-f", "raw", "-o", "preallocation=full", test.directory + "/large", "8M"], descriptors: [])) != 0)
    }

    @Test("A volume is stored in a format and is the same disk", arguments: [ImageFormat.qcow2, .vmdk, .vdi, .vhd, .vhdx])
    func stored(format: ImageFormat) throws {
        let data = ImageUnderTest.data(1 << 20)
        try test.shrink()
        try test.write(data, at: 5 << 20)
        let server = try ImageServer { _, _ in .init(status: 204) }
        let result = try test.store(test.order([server], format.rawValue))
        let body = server.requests[0].body
        #expect(result["md5"]?.string == (try ImageUnderTest.hash("md5", body)) && result["bytes"]?.integer == Int64(body.count))
        #expect(body.count < 32 << 20)
        #expect(entries(of: test.directory + "/conversion").isEmpty)
        try test.write([UInt8](repeating: 0, count: 1 << 20), at: 5 << 20)
        let again = try ImageServer { ImageServer.data(body, $1) }
        let fetched = try test.fetch(test.order([again], format.rawValue, size: body.count))
        #expect(fetched["virtual_size"]?.integer == 64 << 20)
        #expect(try test.read(1 << 20, at: 5 << 20) == data)
    }

    @Test("What the image service does not want is named", arguments: [(409, "state"), (413, "too large"), (301, "redirections")])
    func unwanted(status: Int, words: String) throws {
        let server = try ImageServer { _, _ in .init(status: status) }
        let failure = #expect(throws: DriverFailure.self) { try test.store(test.order([server])) }
        #expect(failure?.message.contains(words) == true)
    }
}
