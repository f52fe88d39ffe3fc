import Testing

@testable import HTTPServer

@Suite("Router and URLs")
struct RouterTests {
    private func segments(_ path: String) -> ArraySlice<Substring> { HTTPRequest(method: "GET", uri: path).segments.dropFirst() }

    @Test("literal segments win over parameters, and a dead end is left again")
    func precedence() {
        var router = Router<String>()
        router.add("GET", "/volumes/{id}", "show")
        router.add("GET", "/volumes/detail", "detail")
        router.add("GET", "/volumes/{id}/metadata", "metadata")
        router.add("POST", "/volumes", "create")
        #expect(router.find("GET", segments("/volumes/detail"))?.target == "detail")
        #expect(router.find("GET", segments("/volumes/x"))?.parameters == ["x"])
        #expect(router.find("GET", segments("/volumes/detail/metadata"))?.target == "metadata")
        #expect(router.find("GET", segments("/volumes")) == nil)
        #expect(router.find("POST", segments("/volumes"))?.target == "create")
        #expect(router.find("GET", segments("/volumes//metadata")) == nil)
        #expect(router.find("GET", segments("/other")) == nil)
    }

    @Test("a path is split at slashes only; encoded ones stay")
    func splitting() {
        #expect(HTTPRequest(method: "GET", uri: "/v3/a%2Fb//c/?x=/").segments == ["", "v3", "a%2Fb", "", "c", ""])
        #expect(HTTPRequest(method: "GET", uri: "").segments == [""])
    }

    @Test("percent encoding is undone strictly in paths and leniently in queries")
    func decoding() {
        #expect(PercentEncoding.decode("a%2Fb%C3%A9") == "a/bé")
        #expect(PercentEncoding.decode("a%2") == nil && PercentEncoding.decode("%ZZ") == nil && PercentEncoding.decode("%FF") == nil)
        let request = HTTPRequest(method: "GET", uri: "/x?a=1+2&b=%26&c&a=3&d=%zz")
        #expect(request.query.map(\.name) == ["a", "b", "c", "a", "d"])
        #expect(request.query[0].value == "1 2" && request.query[1].value == "&" && request.query[4].value == "%zz")
        #expect(request.queryValue("a") == "3")
        #expect(PercentEncoding.encode("a b/é~") == "a%20b%2F%C3%A9~")
        var encoded = "?"
        PercentEncoding.encodeQuery("a b/é~", into: &encoded)
        PercentEncoding.encodeQuery("", into: &encoded)
        #expect(encoded == "?a+b%2F%C3%A9~")
    }

    @Test(
        "a query's items stand between ampersands, empty ones left out; the first equals sign ends the name",
        arguments: [
            ("", []), ("&", []), ("a", ["a:"]), ("a=", ["a:"]), ("=", [":"]), ("=1", [":1"]), ("a=b=c&&d=é&", ["a:b=c", "d:é"]),
            ("&a=1&a=2", ["a:1", "a:2"]), ("a=%26&b%3D=1", ["a:&", "b=:1"]),
        ])
    func items(query: String, expected: [String]) {
        let request = HTTPRequest(method: "GET", uri: "/x?" + query)
        #expect(request.query.map { "\($0.name):\($0.value)" } == expected)
    }
}
