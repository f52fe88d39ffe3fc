import JSON
import Primitives
import TestSupport
import Testing

@testable import Backups

@Suite("Records of backups, and what is kept of a volume")
struct BackupRecordTests {
    /// What a Cinder 29 exports.
    private static let exported =
        "eyJkcml2ZXJfaW5mbyI6IHt9LCAiaWQiOiAiYWFhYWFhYWEtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDAxIiwgInVzZXJfaWQiOiAidSIsICJwcm9qZWN0X2lk"
        + "IjogInAiLCAidm9sdW1lX2lkIjogImJiYmJiYmJiLTAwMDAtMDAwMC0wMDAwLTAwMDAwMDAwMDAwMSIsICJob3N0IjogImgiLCAiYXZhaWxhYmlsaXR5X3pvbmUi"
        + "OiAibm92YSIsICJjb250YWluZXIiOiAiYyIsICJwYXJlbnRfaWQiOiBudWxsLCAic3RhdHVzIjogImF2YWlsYWJsZSIsICJmYWlsX3JlYXNvbiI6IG51bGwsICJz"
        + "aXplIjogMSwgImRpc3BsYXlfbmFtZSI6ICJuXHUwMGU0IFwieFwiIiwgImRpc3BsYXlfZGVzY3JpcHRpb24iOiBudWxsLCAic2VydmljZV9tZXRhZGF0YSI6ICJ2"
        + "b2x1bWVfeCIsICJzZXJ2aWNlIjogImNpbmRlci5iYWNrdXAuZHJpdmVycy5wb3NpeC5Qb3NpeEJhY2t1cERyaXZlciIsICJvYmplY3RfY291bnQiOiAzLCAidGVt"
        + "cF92b2x1bWVfaWQiOiBudWxsLCAidGVtcF9zbmFwc2hvdF9pZCI6IG51bGwsICJudW1fZGVwZW5kZW50X2JhY2t1cHMiOiAwLCAic25hcHNob3RfaWQiOiBudWxs"
        + "LCAiZGF0YV90aW1lc3RhbXAiOiAiMjAyNi0xMS0yOVQxNzowMDowMFoiLCAicmVzdG9yZV92b2x1bWVfaWQiOiBudWxsLCAibWV0YWRhdGEiOiB7ImEiOiAiYiJ9"
        + "LCAiZW5jcnlwdGlvbl9rZXlfaWQiOiBudWxsLCAiY3JlYXRlZF9hdCI6ICIyMDI2LTExLTI5VDE3OjAwOjAwWiIsICJ1cGRhdGVkX2F0IjogbnVsbCwgImRlbGV0"
        + "ZWRfYXQiOiBudWxsLCAiZGVsZXRlZCI6IGZhbHNlfQ=="

    @Test("a record of Cinder's is read, and written again byte for byte")
    func exported() throws {
        let record = try BackupRecord(url: Self.exported)
        #expect(record.displayName == "nä \"x\"")
        #expect(record.objectCount == 3 && record.size == 1)
        #expect(record.metadata == ["a": "b"])
        #expect(record.service == "cinder.backup.drivers.posix.PosixBackupDriver")
        #expect(record.url == Self.exported)
    }

    @Test(
        "a record that breaks a rule is refused, and the member is named",
        arguments: [
            ("id", #"null"#, "id and size"), ("id", #""x""#, "id of a backup record must be a UUID"),
            ("id", "7", "id of a backup record must be a text"),
            ("size", "0", "size of a backup record must be a whole number from 1"), ("size", "1.5", "size"), ("size", #""1""#, "size"),
            ("size", "99999999999999999999", "size"), ("object_count", "-1", "object_count"),
            ("volume_id", #""../x""#, "volume_id"), ("parent_id", #""x""#, "parent_id"), ("metadata", "[]", "metadata"),
            ("metadata", #"{"a": 1}"#, "metadata"), ("driver_info", "1", "driver_info"), ("created_at", #""yesterday""#, "created_at"),
            ("deleted", "1", "deleted"), ("display_name", "\"\(String(repeating: "x", count: 256))\"", "display_name"),
            ("container", #""\u0000""#, "container"),
        ])
    func malformed(member: String, value: String, named: String) throws {
        let text = String(decoding: try #require(Base64.decode(Self.exported)), as: UTF8.self)
        var json = try #require(try JSON(parsing: text).object)
        json[member] = try JSON(parsing: value)
        let url = Base64.encode(Array(JSON.object(json).text.utf8))
        let failure = try #require(throws: ChunkedFailure.self) { try BackupRecord(url: url) }
        #expect(failure.kind == .invalid && failure.reason.contains(named), "\(failure)")
    }

    @Test(
        "every member that an import needs is asked for",
        arguments: ["id", "size", "display_name", "container", "service_metadata", "object_count"])
    func missing(member: String) throws {
        let text = String(decoding: try #require(Base64.decode(Self.exported)), as: UTF8.self)
        var json = try #require(try JSON(parsing: text).object)
        json[member] = nil
        let failure = try #require(throws: ChunkedFailure.self) {
            try BackupRecord(url: Base64.encode(Array(JSON.object(json).text.utf8)))
        }
        #expect(failure.reason == "Provided backup record is missing \(member).")
    }

    @Test("what is no Base64, no JSON or no object is refused", arguments: ["", "x", "====", "e30", "W10=", "eyJ9", "\u{e9}\u{e9}"])
    func garbage(url: String) {
        #expect(throws: ChunkedFailure.self) { try BackupRecord(url: url) }
    }

    @Test("a record with any bytes changed is read or refused, and what was read is written again and means the same")
    func anyByte() throws {
        let good = try #require(Base64.decode(Self.exported))
        var random = Seeded(1)
        for _ in 0..<2000 {
            var bytes = good
            for _ in 0...random.next() % 3 {
                bytes[Int(random.next() % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: random.next() % 128)
            }
            guard let record = try? BackupRecord(url: Base64.encode(bytes)) else { continue }
            #expect(try BackupRecord(url: record.url) == record)
        }
    }

    @Test("a volume's metadata is written in Cinder's second form and read from both")
    func volumeMetadata() throws {
        let metadata = ChunkedVolumeMetadata(
            base: ["display_name": "nä", "encryption_key_id": nil], metadata: ["k": "v"], imageMetadata: [:])
        #expect(
            metadata.text
                == #"{"version": 2, "volume-base-metadata": {"display_name": "n\u00e4", "encryption_key_id": null}, "volume-metadata": {"k": "v"}}"#
        )
        let read = try ChunkedVolumeMetadata(parsing: metadata.text)
        #expect(read.base == metadata.base && read.metadata == ["k": "v"] && read.imageMetadata == nil)
        let first = try ChunkedVolumeMetadata(parsing: #"{"version": 1, "volume-base-metadata": {"encryption_key_id": "k"}}"#)
        #expect(first.base.isEmpty)
    }

    @Test(
        "a volume's metadata that breaks a rule is refused",
        arguments: [
            "", "[]", "{}", #"{"version": 3}"#, #"{"version": 2, "volume-metadata": []}"#, #"{"version": 2, "volume-metadata": {"a": 1}}"#,
        ])
    func malformedVolumeMetadata(text: String) {
        #expect(throws: ChunkedFailure.self) { try ChunkedVolumeMetadata(parsing: text) }
    }

    @Test("Python's form of JSON is followed byte for byte")
    func python() throws {
        let value: JSON = ["b": [], "a": ["x", 1, nil, true], "\u{1F600}": "\u{7f}\u{8}\u{c}\n/", "c": [:]]
        #expect(PythonJSON.line(value) == #"{"b": [], "a": ["x", 1, null, true], "\ud83d\ude00": "\u007f\b\f\n/", "c": {}}"#)
        #expect(
            PythonJSON.lines(value)
                == "{\n  \"a\": [\n    \"x\",\n    1,\n    null,\n    true\n  ],\n  \"b\": [],\n  \"c\": {},\n  "
                + #""\ud83d\ude00": "\u007f\b\f\n/""# + "\n}")
    }
}
