import Backups
import Glibc
import TestSupport
import Testing

@Suite("A directory as a store of objects")
struct DirectoryStoreTests {
    private let store = DirectoryStore(temporaryDirectory("store"))

    private func put(_ name: String, _ text: String) throws {
        try Array(text.utf8).withUnsafeBytes { try store.put(name, [$0], sha256: nil) }
    }

    private func get(_ name: String, at offset: UInt64 = 0, atMost limit: Int = 100) throws -> String {
        var bytes = [UInt8](repeating: 0, count: limit)
        let count = try bytes.withUnsafeMutableBytes { try store.get(name, at: offset, into: $0) }
        return String(decoding: bytes.prefix(count), as: UTF8.self)
    }

    @Test("an object is read as it was put, whole or in part, and a second put replaces it")
    func bytes() throws {
        try put("a/b/c", "first")
        try put("a/b/c", "the second")
        #expect(try get("a/b/c") == "the second")
        #expect(try get("a/b/c", at: 4, atMost: 3) == "sec")
        #expect(try get("a/b/c", at: 100) == "")
        #expect(try store.size(of: "a/b/c") == 10)
        #expect(try store.size(of: "nothing") == nil)
    }

    @Test("what was not committed is neither listed nor left behind")
    func uncommitted() throws {
        let writer = try store.write("x/y")
        try Array("half".utf8).withUnsafeBytes { try writer.append($0) }
        #expect(try store.size(of: "x/y") == nil)
        writer.abandon()
        try put("x/z", "whole")
        var names: [String] = []
        try store.list("", after: "") { name, _ in
            names.append(name)
            return true
        }
        #expect(names == ["x/z"])
    }

    @Test("a listing is in the order of bytes, begins after a name, and stops when it is told to")
    func listing() throws {
        for name in ["data/a-", "data/a/1", "data/b", "data.x", "index/1"] { try put(name, name) }
        var names: [String] = []
        try store.list("data", after: "data/a-") { name, size in
            names.append("\(name) \(size)")
            return names.count < 2
        }
        #expect(names == ["data/a/1 8", "data/b 6"])
    }

    @Test("what is gone can be removed again")
    func removal() throws {
        try put("a", "1")
        try store.remove(["a", "b"])
        try store.remove(["a"])
        #expect(try store.size(of: "a") == nil)
        #expect(throws: StoreFailure.self) { try get("a") }
    }
}
