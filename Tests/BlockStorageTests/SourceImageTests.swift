import JSON
import Testing

@testable import BlockStorage

@Suite("Images of which volumes are made")
struct SourceImageTests {
    private static let id = "11111111-2222-4333-8444-555555555555"
    private static let gibibyte: JSON = 1_073_741_824

    private func image(_ change: JSONObject = [:]) throws -> SourceImage? {
        var members: JSONObject = ["id": .string(Self.id), "status": "active", "size": 1, "min_disk": 0, "min_ram": 0]
        for (name, value) in change.members { members[name] = value }
        return SourceImage(.object(members))
    }

    private func refusal(_ change: JSONObject) throws -> String? {
        do { try #require(try image(change)).check(volumeSize: 1) } catch let error as StorageError { return error.message }
        return nil
    }

    @Test("what the Image service says of an image that is none is no image")
    func nonsense() throws {
        for name in ["size", "virtual_size", "min_disk", "min_ram"] {
            for value in [JSON.integer(-1), .real(1.5), .string("1"), .array([]), .real(1e19)] {
                #expect(try image([name: value]) == nil, "\(name) \(value)")
            }
        }
        #expect(SourceImage([:]) == nil && SourceImage([]) == nil && SourceImage(["id": 1, "status": "active"]) == nil)
        #expect(try image(["size": nil, "virtual_size": nil]) != nil)
    }

    @Test("an image that no volume of the size can be made of is refused in Cinder's words")
    func rules() throws {
        #expect(try refusal([:]) == nil)
        #expect(try refusal(["size": Self.gibibyte, "virtual_size": Self.gibibyte, "min_disk": 1]) == nil)
        #expect(try refusal(["status": "queued"]) == "Invalid input received: Image \(Self.id) is not active.")
        #expect(
            try refusal(["size": 1_073_741_825])
                == "Invalid input received: Size of specified image 2GB is larger than volume size 1GB.")
        #expect(
            try refusal(["min_disk": 2])
                == "Invalid input received: Volume size 1GB cannot be smaller than the image minDisk size 2GB.")
        #expect(
            try refusal(["virtual_size": .integer(.max)])
                == "Image \(Self.id) is unacceptable: Image virtual size is 8589934592GB and doesn't fit in a volume of size 1GB.")
        #expect(try refusal(["size": .integer(.max)]) != nil && refusal(["min_disk": .integer(.max)]) != nil)
    }

    @Test("a volume has the image's properties, and what describes it; nothing else that every image has, and no property that is no text")
    func metadata() throws {
        let found = try #require(
            try image([
                "name": "n", "checksum": "c", "disk_format": "raw", "container_format": "bare", "owner": "o", "stores": "s", "tags": [],
                "hw_disk_bus": "scsi", "odd": [1], "os_hash_value": "h",
            ]))
        #expect(
            found.metadata == [
                "hw_disk_bus": "scsi", "image_id": .string(Self.id), "image_name": "n", "checksum": "c", "disk_format": "raw",
                "container_format": "bare", "min_disk": "0", "min_ram": "0", "size": "1",
            ])
        #expect(found.properties == ["hw_disk_bus": "scsi"])
    }

    @Test("an image that stands for a snapshot names it")
    func snapshot() throws {
        let devices = #"[{"source_type": "snapshot", "boot_index": 0, "snapshot_id": "s", "volume_size": 3}]"#
        #expect(try image(["block_device_mapping": .string(devices)])?.snapshotID == "s")
        for other in [#"[{"source_type": "volume", "boot_index": 0, "snapshot_id": "s"}]"#, "[", "{}", "[1]", ""] {
            #expect(try image(["block_device_mapping": .string(other)])?.snapshotID == nil)
        }
    }
}
