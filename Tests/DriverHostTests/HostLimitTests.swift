import CDriver
import Glibc
import Primitives
import Processes
import TestSupport
import Testing

@testable import DriverHost

/// What a host keeps for its driver, and what it takes from it.
@Suite("Limits of drivers")
struct HostLimitTests {
    /// The driver whose bugs can be switched on.
    private func driver(_ options: [String: String]) throws -> Driver {
        let sources = CompiledDriver.sources + "/mutants"
        let files = entries(of: sources).filter { $0.hasSuffix(".c") }.map { "mutants/" + $0 }.sorted()
        let path = try CompiledDriver.build(
            files[0], as: "clinker-mutants.so", files.dropFirst().map { "\(CompiledDriver.sources)/\($0)" } + ["-pthread"])
        let all = options.merging(["directory": temporaryDirectory("driver")]) { first, _ in first }
        let driver = try Driver(Plugin(path: path), options: .object(all.map { DriverValue.Member($0.key, .string($0.value)) }))
        return driver
    }

    @Test("no request is larger than a driver takes, or out of its blocks: reads, writes, zeroes and copies")
    func sizes() throws {
        let driver = try driver(["minimum": "4096", "maximum": "65536"])
        for name in ["a", "b"] { _ = try driver.call(.createVolume, .members(["volume": volume(name)])) }
        let bytes = CheckBench.pattern(5 << 20, seed: 3)
        try driver.withHandle(.members(["volume": volume("a")]), writable: true) { handle in
            #expect(handle.alignment == 4096 && handle.maximumSize == 65_536 && handle.preferredSize == 65_536)
            try CheckBench.write(bytes, handle, at: 8 << 20)
            #expect(CheckBench.same(try CheckBench.read(bytes.count, handle, at: 8 << 20), bytes))
            try handle.zero(offset: 0, length: 300 << 20)
            #expect(CheckBench.are(try CheckBench.read(bytes.count, handle, at: 8 << 20), 0))
            try CheckBench.write(bytes, handle, at: 8 << 20)
            try driver.withHandle(.members(["volume": volume("b")]), writable: true) { target in
                try BlockCopy(targetIsZero: true).run(from: handle, to: target)
                #expect(CheckBench.same(try CheckBench.read(bytes.count, target, at: 8 << 20), bytes))
            }
        }
    }

    @Test("sizes that make no sense are refused by name", arguments: ["block_size_odd", "block_size_none"])
    func nonsense(bug: String) throws {
        let driver = try driver(["bug": bug])
        _ = try driver.call(.createVolume, .members(["volume": volume("a")]))
        #expect { try driver.withHandle(.members(["volume": volume("a")]), writable: false) { _ in } } throws: {
            "\($0)".contains("block_size: the m")
        }
    }

    @Test("what is no code is an error, though it be a number of the host's own", arguments: ["code_negative", "code_unknown"])
    func codes(bug: String) throws {
        let driver = try driver(["bug": bug])
        #expect { _ = try driver.call(.extendVolume, .members(["volume": volume("none"), "new_size": .integer(2)])) } throws: {
            ($0 as? DriverFailure)?.code == .error && "\($0)".contains("which is no code")
        }
    }

    @Test("a private text is kept whole or refused, and text is UTF-8 or refused by name")
    func texts() throws {
        for (bug, words) in [("data_long", "has 4999 bytes, at most 4096"), ("utf8_data", "result 'data' is not UTF-8")] {
            let driver = try driver(["bug": bug])
            #expect { _ = try driver.call(.createVolume, .members(["volume": volume("a")])) } throws: { "\($0)".contains(words) }
        }
    }

    @Test("what is cut says so, and not within a character")
    func cuts() {
        #expect(DriverLimits.cut(Array("hello".utf8), to: 5) == "hello")
        #expect(DriverLimits.cut(Array("hello".utf8), to: 4) == "hell (and 1 bytes more)")
        #expect(DriverLimits.cut(Array("aé".utf8), to: 2) == "a (and 2 bytes more)")
        #expect(DriverLimits.cut([0x61, 0xFF] as [UInt8], to: 9).hasSuffix("(this was not UTF-8)"))
    }

    @Test("lines pass at a rate, and those that do not are counted")
    func gate() {
        let gate = LineGate()
        let now = Timestamp.monotonic()
        let passed = (0..<3_000).count { _ in gate.admit(now: now).isAdmitted }
        #expect(passed == 1_000)
        let later = gate.admit(now: now + 1)
        #expect(later.isAdmitted && later.dropped == 2_000)
        #expect(gate.admit(now: now + 1).dropped == 0)
    }

    @Test("an answer that is too long for the wire is a failed call, not a broken wire")
    func longAnswers() throws {
        let (mine, theirs) = try socketPair()
        let (sender, receiver) = (Wire(mine), Wire(theirs))
        #expect(sender.send(Frame(kind: .result, id: 7, value: .string(String(repeating: "x", count: 17 << 20)))))
        let frame = try #require(try receiver.receive())
        #expect(frame.kind == .failed && frame.id == 7 && frame.value["message"]?.string?.contains("at most 16777216 are taken") == true)
    }
}
