import Glibc
import JSON
import TestSupport
import Testing

@testable import HTTPServer

/// `/healthcheck`, with what oslo.middleware 8 was seen to answer.
@Suite("Healthcheck")
struct HealthcheckTests {
    private func ask(_ middleware: HealthcheckMiddleware, accept: String? = nil, method: String = "GET", headers: [(String, String)] = [])
        -> (status: Int, type: String?, text: String)?
    {
        let request = HTTPRequest(method: method, uri: "/healthcheck", headers: headers + (accept.map { [("Accept", $0)] } ?? []))
        guard case .answer(let response) = middleware.admit(request) else { return nil }
        switch response.body {
        case .text(let text): return (response.status, response.contentType, text)
        case .buffer(let buffer):
            defer { free(buffer.base) }
            let text = String(decoding: UnsafeRawBufferPointer(start: buffer.base, count: buffer.count), as: UTF8.self)
            return (response.status, response.contentType, text)
        case .none, .stream: return (response.status, response.contentType, "")
        }
    }

    private let healthy = Result { try HealthcheckMiddleware(Healthcheck(backends: ["disable_by_file"], disablingFile: "/nonexistent/x")) }

    @Test(
        "the form of the answer is the one that the client likes best: text before HTML before JSON where it likes them alike",
        arguments: [
            (nil, "text/plain"), ("", "text/plain"), ("text/html", "text/html"), ("application/json", "application/json"),
            ("application/json, text/plain, */*", "text/plain"), ("application/*", "application/json"),
            ("*/*;q=0.1, application/json", "application/json"), ("image/png", "text/plain"), ("text/plain;q=0, */*", "text/html"),
            ("garbage", "text/plain"), ("text/html;level=1", "text/plain"),
            ("application/json;q=0.5,text/html;q=0.6", "text/html"),
            ("text/*;q=0.3, application/json;q=0.2, text/html;q=0", "text/plain"), ("APPLICATION/JSON ; q=1.0", "application/json"),
            ("application/json;q=2", "text/plain"),
        ] as [(String?, String)])
    func forms(accept: String?, type: String) throws {
        let answer = try #require(ask(try healthy.get(), accept: accept))
        #expect(answer.status == 200 && answer.type?.hasPrefix(type) == true, "\(answer)")
    }

    @Test("an Accept of any length is read in bounded time")
    func longAccept() throws {
        let long = Array(repeating: "a/b", count: 100_000).joined(separator: ",")
        #expect(try ask(healthy.get(), accept: long + ",application/json")?.type?.hasPrefix("text/plain") == true)
    }

    @Test("text, HTML and JSON say the reason of each check")
    func bodies() throws {
        let healthy = try healthy.get()
        #expect(ask(healthy)?.text == "OK")
        #expect(try JSON(parsing: try #require(ask(healthy, accept: "application/json")).text) == ["detailed": false, "reasons": ["OK"]])
        let page = try #require(ask(healthy, accept: "text/html")).text
        #expect(page.hasPrefix("<HTML>\n<HEAD><TITLE>Healthcheck Status</TITLE></HEAD>") && page.contains("Result of 1 checks:"))
        #expect(page.contains("<TD>OK</TD>") && !page.contains("Server status"))
        let head = try #require(ask(healthy, method: "HEAD"))
        #expect(head.status == 204 && head.text.isEmpty)
        #expect(ask(healthy, method: "POST") == nil)
    }

    @Test("without checks it is healthy and says nothing")
    func noChecks() throws {
        let none = HealthcheckMiddleware(try Healthcheck(backends: [], disablingFile: ""))
        #expect(ask(none)?.status == 200 && ask(none)?.text == "")
        #expect(try JSON(parsing: try #require(ask(none, accept: "application/json")).text) == ["detailed": false, "reasons": []])
    }

    @Test("a file disables it, one for its port does, and one that is missing does where files have to be there")
    func files() throws {
        let directory = temporaryDirectory("health")
        let there = directory + "/there"
        close(open(there, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600))
        let byFile = HealthcheckMiddleware(try Healthcheck(backends: ["disable_by_file"], disablingFile: there))
        #expect(ask(byFile)?.status == 503 && ask(byFile)?.text == "DISABLED BY FILE" && ask(byFile, method: "HEAD")?.status == 503)
        func byPort(_ port: Int) throws -> HealthcheckMiddleware {
            HealthcheckMiddleware(
                try Healthcheck(
                    backends: ["disable_by_file", "disable_by_files_ports"], disablingFile: directory + "/missing",
                    disablingFiles: ["8776:\(there)", "1:/x"], port: port))
        }
        let disabled = ask(try byPort(8776))
        #expect(disabled?.text == "OK\nDISABLED BY FILE" && disabled?.status == 503)
        #expect(try ask(byPort(8777))?.text == "OK\nOK")
        func enabled(_ files: [String]) throws -> HealthcheckMiddleware {
            HealthcheckMiddleware(try Healthcheck(backends: ["enable_by_files"], disablingFile: "", enablingFiles: files))
        }
        #expect(try ask(enabled([there]))?.text == "OK")
        #expect(try ask(enabled([]))?.status == 200)
        #expect(try ask(enabled([there, directory + "/missing"]))?.text == "FILE PATH MISSING")
    }

    @Test("details name the process, its threads and why each check found what it found, and nothing that is written is markup")
    func details() throws {
        var middleware = HealthcheckMiddleware(try Healthcheck(backends: ["disable_by_file"], disablingFile: "/nonexistent/<b>'&"))
        middleware.detailedVersion = "1.2"
        let json = try JSON(parsing: try #require(ask(middleware, accept: "application/json")).text)
        #expect(json["detailed"] == true && json["version"] == "1.2" && json["threads"]?.array?.isEmpty == false)
        #expect(json["platform"]?.string?.hasPrefix("Linux-") == true && json["now"]?.string?.utf8.count == 26)
        let reason: JSON = ["class": "HealthcheckResult", "details": "Path '/nonexistent/<b>'&' was not found", "reason": "OK"]
        #expect(json["reasons"] == [reason])
        let page = try #require(ask(middleware, accept: "text/html")).text
        #expect(page.contains("<H1>Server status</H1>") && page.contains("/nonexistent/&lt;b&gt;&#39;&amp;") && !page.contains("<b>"))
        #expect(ask(middleware)?.text == "OK")
    }

    @Test("who is outside of the allowed ranges, or comes through a proxy where that is not wanted, is not answered")
    func ranges() throws {
        var middleware = try healthy.get()
        middleware.allowed = [try #require(AddressRange("10.0.0.0/8"))]
        #expect(ask(middleware) == nil)
        middleware.allowed.append(try #require(AddressRange("127.0.0.0/8")))
        #expect(ask(middleware)?.status == 200)
        middleware.ignoresProxied = true
        #expect(ask(middleware)?.status == 200)
        #expect(ask(middleware, headers: [("X-Forwarded-For", "1.2.3.4")]) == nil)
    }

    @Test(
        "ranges of addresses hold what is in them",
        arguments: [
            ("10.0.0.0/8", "10.255.0.1", true), ("10.0.0.0/8", "11.0.0.1", false), ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.4", false), ("0.0.0.0/0", "8.8.8.8", true), ("0.0.0.0/0", "::1", false), ("fd00::/8", "fdff::1", true),
            ("fd00::/9", "fd80::1", false), ("192.168.4.0/22", "192.168.7.255", true), ("192.168.4.0/22", "192.168.8.0", false),
            ("::/0", "-", false),
        ])
    func addresses(range: String, address: String, isIn: Bool) throws {
        #expect(try #require(AddressRange(range)).contains(address) == isIn)
    }

    @Test(
        "what is no range is none", arguments: ["", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "host", "fd00::/129", "1/8"])
    func noRanges(text: String) { #expect(AddressRange(text) == nil) }

    @Test("what cannot be checked is refused with the option and the rule")
    func refused() {
        func problem(_ backends: [String], _ files: [String] = []) -> String {
            do throws(Healthcheck.Problem) {
                _ = try Healthcheck(backends: backends, disablingFile: "", disablingFiles: files)
                return ""
            } catch { return error.description }
        }
        #expect(problem(["disable_by_files"]).hasPrefix("backends: there is no 'disable_by_files', only disable_by_file, "))
        #expect(problem(["disable_by_file", "enable_by_files"]).contains("exclude each other"))
        for files in [["/path"], ["x:/path"], ["70000:/path"], ["80:"]] {
            #expect(problem([], files).contains("is no port:path"), "\(files)")
        }
    }
}
