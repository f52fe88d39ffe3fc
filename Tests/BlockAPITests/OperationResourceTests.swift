import Database
import HTTPServer
import Testing

@testable import BlockAPI

@Suite("Operations of a project")
struct OperationResourceTests {
    @Test(
        "a member cancels what members start, and not the migration that an administrator has started",
        arguments: ["volume.create", "volume.migrate"])
    func cancellation(flow: String) async throws {
        let api = try await InMemoryAPI()
        _ = try await api.database.write { tx in
            try tx.run(
                text: """
                    INSERT INTO operations (id, flow, version, state, reverting, attempts, resource_type, resource_id, project_id, user_id,
                        request_id, arguments, step_state, created_at, updated_at)
                    VALUES ('one', ?, 1, 'running', 0, 0, 'volume', 'v', ?, 'u', 'r', '{}', '{}', '2026-01-01T00:00:00.000000',
                        '2026-01-01T00:00:00.000000')
                    """, [.text(flow), .text(InMemoryAPI.project)])
        }
        let cancel = try #require(api.operations.first { $0.name == "operations:cancel" })
        func status(isAdmin: Bool) async throws -> Int {
            do {
                return try await cancel.handler(api.request(["one"], isAdmin: isAdmin)).status
            } catch let error as HTTPError { return error.status }
        }
        #expect(try await status(isAdmin: false) == (flow == "volume.migrate" ? 403 : 202))
        #expect(try await status(isAdmin: true) == 202)
    }

    @Test(
        "words that the list does not know are refused by name: it has one order, and is gone through by the marker",
        arguments: ["sort=zz", "sort_key=created_at", "sort_dir=asc", "offset=1", "with_count=1", "flows=x", "host=h@b"])
    func unknownWords(query: String) async throws {
        let api = try await InMemoryAPI()
        let list = try #require(api.operations.first { $0.name == "operations:list" })
        let name = query.prefix { $0 != "=" }
        do {
            _ = try await list.handler(api.request([], query: query, isAdmin: false))
            Issue.record("\(query) is passed over")
        } catch let error as HTTPError {
            #expect(error.status == 400 && error.message.hasPrefix("Invalid filters \(name) are found in query options. Known are "))
        }
        // Which backend an operation is on is for administrators.
        if name == "host" { #expect(try await list.handler(api.request([], query: query, isAdmin: true)).status == 200) }
        #expect(try await list.handler(api.request([], query: "flow=x&limit=1&all_tenants=0", isAdmin: false)).status == 200)
    }
}
