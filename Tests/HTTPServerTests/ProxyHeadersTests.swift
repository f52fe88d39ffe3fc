import Testing

@testable import HTTPServer

/// Where a request came from, as a proxy says it.
@Suite("Proxy headers")
struct ProxyHeadersTests {
    private func seen(_ headers: [(String, String)], addressAlone: Bool = false) -> HTTPRequest {
        let request = HTTPRequest(method: "GET", uri: "/", headers: headers)
        ProxyHeaders(takesAddressAlone: addressAlone).check(request)
        return request
    }

    @Test(
        "the address is what the nearest proxy says, not what stands before it",
        arguments: [
            ("192.0.2.7", "192.0.2.7"), ("10.9.9.9, 192.0.2.7", "192.0.2.7"), ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"), ("192.0.2.7:80", "192.0.2.7"), ("unknown", "127.0.0.1"), ("", "127.0.0.1"),
        ])
    func address(header: String, address: String) {
        for alone in [true, false] {
            #expect(seen([("X-Forwarded-For", header)], addressAlone: alone).remoteAddress == address)
        }
    }

    @Test("where the address alone is believed, links are those of the request")
    func addressAlone() {
        let headers = [
            ("X-Forwarded-For", "192.0.2.7"), ("X-Forwarded-Host", "pub.example"), ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Prefix", "/volume"), ("Forwarded", "for=192.0.2.8;host=other.example"),
        ]
        let request = seen(headers, addressAlone: true)
        #expect(request.forwarded == nil && request.remoteAddress == "192.0.2.7")
        #expect(seen(headers).forwarded?.host == "other.example")
    }
}
