import HTTPServer
import Testing

@testable import BlockAPI

@Suite("Operations of a project")
struct OperationResourceTests {
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
