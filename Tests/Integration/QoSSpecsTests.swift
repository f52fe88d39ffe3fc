import JSON
import Testing

@Suite("QoS specs of volumes in use")
struct QoSSpecsInUseTests {
    @Test("a host that connects is told the limits of the volume's type; a volume in use keeps to them")
    func connection() throws {
        let service = try ServiceUnderTest()
        func made(_ path: String, _ key: String, _ members: JSON) throws -> String {
            try #require(try service.api("POST", path, .object(JSONObject([(name: key, value: members)]))).json[key]?["id"]?.string)
        }
        let qos = try made("/qos-specs", "qos_specs", ["name": "q", "consumer": "front-end", "total_iops_sec_per_gb": "30", "note": "n"])
        let type = try made("/types", "volume_type", ["name": "limited"])
        _ = try made("/types", "volume_type", ["name": "plain"])
        #expect(try service.api("GET", "/qos-specs/\(qos)/associate?vol_type_id=\(type)").status == 202)
        let volume = try service.create(["size": 2, "volume_type": "limited"])
        try service.wait(volume, "available")
        let connector: JSON = ["host": "peer", "ip": "127.0.0.1", "initiator": "iqn.x"]
        let attachment = try service.api("POST", "/attachments", ["attachment": ["volume_uuid": .string(volume), "connector": connector]])
        let id = try #require(attachment.json["attachment"]?["id"]?.string, "\(attachment.text)")
        #expect(attachment.json["attachment"]?["connection_info"]?["qos_specs"] == ["note": "n", "total_iops_sec": 60])
        _ = try service.api("POST", "/attachments/\(id)/action", ["os-complete": [:]])
        let retype = try service.api("POST", "/volumes/\(volume)/action", ["os-retype": ["new_type": "plain"]])
        #expect(retype.status == 400 && retype.text.contains("front-end qos specs cannot change"), "\(retype.text)")
    }
}
