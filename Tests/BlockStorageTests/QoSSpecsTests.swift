import JSON
import Testing

@testable import BlockStorage

@Suite("What QoS specs ask of hosts")
struct QoSSpecsHostTests {
    private func ofHost(_ specs: JSONObject, size: Int) async throws -> JSON? {
        let storage = try await Storage()
        return try await storage.database.write { try QoSSpecs.create(name: "q", specs: specs, in: $0) }.ofHost(size: size).map {
            .object($0)
        }
    }

    @Test("a host gets what the front end or both see to, and nothing else")
    func consumers() async throws {
        #expect(try await ofHost(["total_iops_sec": "100"], size: 1) == nil)
        for consumer in ["front-end", "both"] {
            #expect(try await ofHost(["total_iops_sec": "100", "consumer": .string(consumer)], size: 1) == ["total_iops_sec": "100"])
        }
    }

    @Test("limits for each GiB follow the volume's size, between their least and their most")
    func scaled() async throws {
        let specs: JSONObject = [
            "consumer": "both", "read_iops_sec_per_gb": "10", "read_iops_sec_per_gb_min": "30", "read_iops_sec_max": "50", "note": "n",
        ]
        #expect(try await ofHost(specs, size: 1) == ["note": "n", "read_iops_sec": 30])
        #expect(try await ofHost(specs, size: 4) == ["note": "n", "read_iops_sec": 40])
        #expect(try await ofHost(specs, size: 9) == ["note": "n", "read_iops_sec": 50])
    }

    @Test("a limit that is no number stays as it was said, and one too large for a number is the largest")
    func odd() async throws {
        #expect(try await ofHost(["consumer": "both", "read_iops_sec_per_gb": "many"], size: 2) == ["read_iops_sec_per_gb": "many"])
        #expect(
            try await ofHost(["consumer": "both", "read_iops_sec_per_gb": "9223372036854775807"], size: 2)
                == ["read_iops_sec": .integer(.max)])
    }
}
