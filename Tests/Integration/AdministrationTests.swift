import Glibc
import JSON
import Primitives
import Testing

/// What administrators look at and set: default types, quota classes, hosts, capabilities, logs, services.
@Suite("Administration", .serialized)
struct AdministrationTests {
    @Test("a project's own default type is what its volumes get")
    func defaultTypes() throws {
        let service = try ServiceUnderTest()
        let type = try MoveTests.type(service, "own", [:])
        let path = "/default-types/" + ServiceUnderTest.project
        #expect(try service.api("GET", "/default-types").json == ["default_types": []])
        #expect(try service.api("GET", path).message == "Default type for project \(ServiceUnderTest.project) not found.")
        #expect(
            try service.api("PUT", path, ["default_type": ["volume_type": "nope"]]).message
                == "Volume type with name nope could not be found.")
        for body: JSON in [[:], ["default_type": [:]], ["default_type": ["volume_type": ""]], ["default_type": ["volume_type": 1]]] {
            #expect(try service.api("PUT", path, body).status == 400, "\(body.text)")
        }
        let own: JSON = ["project_id": .string(ServiceUnderTest.project), "volume_type_id": .string(type)]
        #expect(try service.api("PUT", path, ["default_type": ["volume_type": "own"]]).json == ["default_type": own])
        #expect(try service.api("GET", path).json == ["default_type": own])
        #expect(try service.api("GET", "/default-types").json == ["default_types": [own]])
        #expect(try service.api("GET", path, version: "3.61").status == 404)
        let id = try service.create()
        #expect(try service.wait(id, "available")?["volume_type"] == "own")
        #expect(try service.api("DELETE", "/volumes/\(id)").status == 202)
        try service.wait(id, nil)
        #expect(try service.api("DELETE", "/types/\(type)").status == 400, "a default is not deleted")
        #expect(try service.api("DELETE", path).status == 204)
        #expect(try service.api("DELETE", "/types/\(type)").status == 202)
        let other = try service.create()
        #expect(try service.wait(other, "available")?["volume_type"] == "__DEFAULT__")
    }

    @Test("the class default holds for projects without limits of their own")
    func quotaClasses() throws {
        let service = try ServiceUnderTest()
        let path = "/os-quota-class-sets/default"
        let before = try service.api("GET", path).json["quota_class_set"]
        #expect(before?["volumes"] == 10 && before?["id"] == "default" && before?["volumes___DEFAULT__"] == -1 && before?["groups"] == 10)
        let answer = try service.api("PUT", path, ["quota_class_set": ["volumes": 1, "gigabytes___DEFAULT__": "5"]])
        #expect(answer.status == 200 && answer.json["quota_class_set"]?["volumes"] == 1 && answer.json["quota_class_set"]?["id"] == nil)
        #expect(answer.json["quota_class_set"]?["gigabytes___DEFAULT__"] == 5)
        try service.wait(try service.create(), "available")
        #expect(
            try service.api("POST", "/volumes", ["volume": ["size": 1]]).message
                == "VolumeLimitExceeded: Maximum number of volumes allowed (1) exceeded for quota 'volumes'.")
        // Another class is nobody's, yet it can be set.
        #expect(try service.api("PUT", "/os-quota-class-sets/gold", ["quota_class_set": ["volumes": 7]]).status == 200)
        #expect(try service.api("GET", "/os-quota-class-sets/gold").json["quota_class_set"]?["volumes"] == 7)
        #expect(try service.api("PUT", "/os-quota-sets/\(ServiceUnderTest.project)", ["quota_set": ["volumes": 2]]).status == 200)
        try service.wait(try service.create(), "available")
        for set: JSON in [["nope": 1], ["volumes": -2], ["volumes": "x"], ["volumes": 2_147_483_648]] {
            #expect(try service.api("PUT", path, ["quota_class_set": set]).status == 400, "\(set.text)")
        }
        #expect(try service.api("PUT", path, [:]).status == 400)
    }

    @Test("hosts are listed with what lies on them")
    func hosts() throws {
        let service = try ServiceUnderTest()
        let id = try service.create(["size": 2])
        try service.wait(id, "available")
        try SnapshotTests.wait(service, try SnapshotTests.snapshot(service, of: id), "available")
        let hosts = try service.api("GET", "/os-hosts").json["hosts"]?.array ?? []
        #expect(hosts.map { $0["host_name"] } == ["node", "node@file"])
        #expect(hosts.allSatisfy { $0["service-status"] == "available" && $0["service-state"] == "enabled" && $0["zone"] == "nova" })
        #expect(try service.api("GET", "/os-hosts?zone=mars").json == ["hosts": []])
        let shown = try service.api("GET", "/os-hosts/node@file").json["host"]?.array ?? []
        let counts: JSON = [
            "host": "node@file", "project": "(total)", "volume_count": "1", "total_volume_gb": "2", "snapshot_count": "1",
            "total_snapshot_gb": "2",
        ]
        #expect(shown.count == 2 && shown[0]["resource"] == counts)
        #expect(shown[1]["resource"]?["project"]?.string == ServiceUnderTest.project)
        #expect(try service.api("GET", "/os-hosts/nope").status == 404)
        #expect(try service.api("PUT", "/os-hosts/node@file", ["status": "disable"]).status == 200)
        #expect(try service.api("GET", "/os-hosts").json["hosts"]?.array?[1]["service-state"] == "disabled")
        #expect(try service.api("PUT", "/os-hosts/node@file", ["status": "x"]).status == 400)
        #expect(try service.api("PUT", "/os-hosts/nope", ["status": "enable"]).status == 404)
    }

    @Test("a backend's capabilities, and what lists can be filtered by")
    func capabilities() throws {
        let service = try ServiceUnderTest()
        try service.wait(try service.create(), "available")
        let shown = try service.api("GET", "/capabilities/node@file").json
        #expect(shown["namespace"] == "OS::Storage::Capabilities::node@file" && shown["storage_protocol"] == "file")
        #expect(shown["volume_backend_name"] == "file" && shown["replication_targets"] == [] && shown["pool_name"] == .null)
        #expect(shown["properties"]?["qos"]?["type"] == "boolean")
        #expect(try service.api("GET", "/capabilities/nohost@x").message == "Can't find service: nohost@x")
        let filters = try service.api("GET", "/resource_filters").json["resource_filters"]?.array ?? []
        #expect(filters.count == 9)
        #expect(
            try service.api("GET", "/resource_filters?resource=pool").json
                == ["resource_filters": [["resource": "pool", "filters": ["name", "volume_type"]]]])
        #expect(try service.api("GET", "/resource_filters", version: "3.32").status == 404)
    }

    @Test("what is promised since a backend's last report is missing from what it calls free")
    func freeCapacity() throws {
        let service = try ServiceUnderTest()
        try service.wait(try service.create(), "available")
        func free() throws -> Double {
            let pool = try service.api("GET", "/scheduler-stats/get_pools?detail=true").json["pools"]?.array?.first
            guard case .real(let free)? = pool?["capabilities"]?["free_capacity_gb"] else { return -1 }
            return free
        }
        let before = try free()
        let id = try service.create(["size": 7])
        try service.wait(id, "available")
        #expect(try abs(before - free() - 7) < 0.01)
        #expect(try service.api("DELETE", "/volumes/\(id)").status == 202)
        try service.wait(id, nil)
        #expect(try abs(before - free()) < 0.01)
    }

    @Test("the levels of loggers are shown and set while the service runs")
    func logs() throws {
        let service = try ServiceUnderTest()
        func levels(_ body: JSON) throws -> [String: JSON] {
            let found = try service.api("PUT", "/os-services/get-log", body).json["log_levels"]?.array ?? []
            return Dictionary(found.map { ($0["binary"]?.string ?? "", $0["levels"] ?? .null) }, uniquingKeysWith: { $1 })
        }
        #expect(try levels([:])["cinder-scheduler"] == ["clinker.flows": "INFO"])
        #expect(Set(try levels(["binary": "*"]).keys) == ["cinder-api", "cinder-scheduler", "cinder-volume"])
        #expect(
            try levels(["binary": "cinder-volume", "prefix": "clinker.b", "server": "node@file"]) == [
                "cinder-volume": ["clinker.backend": "INFO"]
            ])
        #expect(try levels(["server": "nope"]).isEmpty)
        try service.wait(try service.create(), "available")
        #expect(!service.log.contains(" DEBUG "))
        #expect(try service.api("PUT", "/os-services/set-log", ["binary": "cinder-scheduler", "level": "debug"]).status == 202)
        #expect(try levels(["binary": "cinder-scheduler"]) == ["cinder-scheduler": ["clinker.flows": "DEBUG"]])
        try service.wait(try service.create(), "available")
        #expect(service.log.contains(" DEBUG flows "))
        for level: JSON in ["loud", .null, ""] {
            #expect(try service.api("PUT", "/os-services/set-log", ["binary": "*", "level": level]).status == 400)
        }
        #expect(try service.api("PUT", "/os-services/set-log", ["binary": "nope", "level": "INFO"]).status == 400)
        #expect(try service.api("PUT", "/os-services/get-log", version: "3.31", [:]).status == 404)
    }

    @Test("a backend is drained, taken out, and its service forgotten")
    func services() async throws {
        let service = try MoveTests.service(options: "service_down_time = 2\nreport_interval = 1")
        try MoveTests.types(service)
        let id = try service.create(["volume_type": "two"])
        try service.wait(id, "available")
        let listed = try await OperationTests.clinker(service, ["service", "list"])
        #expect(listed.status == 0 && listed.output.contains("cinder-volume\tnode@two\tnova\tenabled\tup"))
        let drained = try await OperationTests.clinker(service, ["service", "drain", "node@two"])
        #expect(drained.status == 0 && drained.output == "node@two is drained\n")
        #expect(try await OperationTests.clinker(service, ["service", "list"]).output.contains("disabled\tup"))
        let refused = try service.create(["volume_type": "two"])
        try service.wait(refused, "error")
        let busy = try await OperationTests.clinker(service, ["service", "remove", "cinder-volume", "node@two"])
        #expect(busy.status == 1 && busy.output.contains("is up"))
        #expect(service.stop() == 0)
        let configuration = try ServiceUnderTest.read(service.configuration)
        try ServiceUnderTest.write(
            service.configuration, configuration.replacing("enabled_backends = one,two", with: "enabled_backends = one"))
        try service.start()
        usleep(2_500_000)
        let full = try await OperationTests.clinker(service, ["service", "remove", "cinder-volume", "node@two"])
        #expect(full.status == 1 && full.output.contains("still has 1 volumes"))
        #expect(try service.api("PUT", "/os-services/remove", ["binary": "cinder-volume", "host": "nope"]).status == 404)
        // What lay there is given up by an administrator.
        #expect(service.stop() == 0)
        try ServiceUnderTest.write(service.configuration, configuration)
        try service.start()
        #expect(try service.api("DELETE", "/volumes/\(id)").status == 202)
        try service.wait(id, nil)
        #expect(service.stop() == 0)
        try ServiceUnderTest.write(
            service.configuration, configuration.replacing("enabled_backends = one,two", with: "enabled_backends = one"))
        try service.start()
        usleep(2_500_000)
        #expect(try await OperationTests.clinker(service, ["service", "remove", "cinder-volume", "node@two"]).status == 0)
        #expect(try await !OperationTests.clinker(service, ["service", "list"]).output.contains("node@two"))
    }
}
