import Glibc
import JSON
import Primitives

/// The answer of `/healthcheck` in each of its forms.
struct HealthcheckBody {
    let results: [Healthcheck.Result]
    /// What is shown of the process and of each check besides its reason; nil: nothing.
    let details: Details?

    struct Details {
        let now = String(decoding: Timestamp.now().utf8.map { $0 == UInt8(ascii: "T") ? 0x20 : $0 }, as: UTF8.self)
        let hostName: String
        let platform: String
        let version: String
        let threads = Self.threadNames()

        init(version: String) {
            self.version = version
            var system = utsname()
            uname(&system)
            func text<T>(_ field: inout T) -> String {
                withUnsafeBytes(of: &field) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            }
            hostName = text(&system.nodename)
            platform = "\(text(&system.sysname))-\(text(&system.release))-\(text(&system.machine))"
        }

        private static func threadNames() -> [String] {
            guard let directory = opendir("/proc/self/task") else { return [] }
            defer { closedir(directory) }
            var names: [String] = []
            while let entry = readdir(directory), names.count < 1000 {
                let id = withUnsafePointer(to: &entry.pointee.d_name) {
                    $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                }
                guard !id.hasPrefix(".") else { continue }
                let file = open("/proc/self/task/\(id)/comm", O_RDONLY | O_CLOEXEC)
                guard file >= 0 else { continue }
                defer { close(file) }
                var bytes = [UInt8](repeating: 0, count: 64)
                let count = read(file, &bytes, bytes.count)
                if count > 0 { names.append(String(decoding: bytes[..<count].prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)) }
            }
            return names.sorted()
        }
    }

    private static let kind = "HealthcheckResult"

    /// The media types, the one first that is taken where a client has no preference.
    static let types = ["text/plain", "text/html", "application/json"]

    func response(_ status: Int, as type: String) -> HTTPResponse {
        switch type {
        case "application/json": json(status)
        case "text/html": HTTPResponse(status: status, body: .text(html), contentType: "text/html; charset=UTF-8")
        default:
            HTTPResponse(
                status: status, body: .text(results.map(\.reason).joined(separator: "\n")), contentType: "text/plain; charset=UTF-8")
        }
    }

    private func json(_ status: Int) -> HTTPResponse {
        .json(status) { writer in
            writer.beginObject()
            writer.member("detailed", details != nil)
            if let details {
                writer.member("hostname", details.hostName)
                writer.member("now", details.now)
                writer.member("platform", details.platform)
                writer.member("version", details.version)
                writer.key("threads")
                writer.beginArray()
                for name in details.threads { writer.string(name) }
                writer.endArray()
            }
            writer.key("reasons")
            writer.beginArray()
            for result in results {
                guard details != nil else {
                    writer.string(result.reason)
                    continue
                }
                writer.beginObject()
                writer.member("class", Self.kind)
                writer.member("details", result.details)
                writer.member("reason", result.reason)
                writer.endObject()
            }
            writer.endArray()
            writer.endObject()
        }
    }

    private var html: String {
        var lines = ["<HTML>", "<HEAD><TITLE>Healthcheck Status</TITLE></HEAD>", "<BODY>"]
        if let details {
            lines.append("<H1>Server status</H1>")
            let facts = [
                ("Server hostname", details.hostName), ("Current time", details.now), ("Version", details.version),
                ("Platform", details.platform),
            ]
            for (name, value) in facts { lines.append("<B>\(name):</B><PRE>\(Self.escaped(value))</PRE>") }
            lines.append("<HR></HR>")
        }
        lines.append("<H2>Result of \(results.count) checks:</H2>")
        lines += Self.table(
            head: details == nil ? ["Reason"] : ["Kind", "Reason", "Details"],
            rows: results.map { details == nil ? [$0.reason] : [Self.kind, $0.reason, $0.details] })
        lines.append("<HR></HR>")
        if let details {
            lines.append("<H2>\(details.threads.count) thread(s) active:</H2>")
            lines += Self.table(head: [], rows: details.threads.map { [$0] })
        }
        lines += ["</BODY>", "</HTML>"]
        return lines.joined(separator: "\n")
    }

    private static func table(head: [String], rows: [[String]]) -> [String] {
        var lines = ["<TABLE bgcolor=\"#ffffff\" border=\"1\">", "<TBODY>"]
        if !head.isEmpty { lines += ["<TR>"] + head.map { "<TH>\($0)</TH>" } + ["</TR>"] }
        for row in rows { lines += ["<TR>"] + row.map { "<TD>\(escaped($0))</TD>" } + ["</TR>"] }
        return lines + ["</TBODY>", "</TABLE>"]
    }

    private static func escaped(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "\"": result += "&#34;"
            case "'": result += "&#39;"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}
