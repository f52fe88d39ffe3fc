import HTTPServer
import JSON

/// What a successful operation answers: status, headers and the shape of the body are said here and nowhere else; a handler gives only
/// the values.
struct Reply<Output>: Sendable {
    let status: Int
    var contentType: String? = HTTPResponse.json
    /// What the body holds at a microversion; nil: there is none.
    let shape: (@Sendable (_ version: Int) -> Shape)?
    /// Headers beside those that every answer has: names and what they say.
    private(set) var headers: [(name: String, text: String)] = []
    /// Statuses of other answers that are no errors, and what they mean.
    private(set) var alternatives: [(status: Int, text: String)] = []
    let respond: @Sendable (Output, APIRequest) throws -> HTTPResponse
}

/// A body that the handler wrote.
struct Rendered: Sendable {
    let buffer: JSONWriter.Buffer

    /// What the closure writes.
    init(capacity: Int = 1024, _ write: (inout JSONWriter) throws -> Void) rethrows {
        var writer = JSONWriter(capacity: capacity)
        try write(&writer)
        buffer = writer.take()
    }
}

extension HTTPResponse {
    static let html = "text/html; charset=UTF-8"
}

extension Reply where Output == Void {
    /// No body. Cinder's framework says of some of these that they are HTML, and of others that they are JSON.
    static func empty(_ status: Int, as contentType: String? = HTTPResponse.json) -> Reply {
        Reply(status: status, contentType: contentType, shape: nil) { _, _ in HTTPResponse(status: status, contentType: contentType) }
    }
}

extension Reply where Output == Rendered {
    /// A body that the handler writes itself, in a declared shape.
    static func rendered(_ shape: @escaping @Sendable (_ version: Int) -> Shape) -> Reply {
        Reply(status: 200, shape: shape) { output, _ in HTTPResponse(status: 200, body: .buffer(output.buffer)) }
    }

}

extension Reply where Output == JSON {
    static func json(_ shape: Shape) -> Reply {
        Reply(status: 200, shape: { _ in shape }) { output, _ in .json { $0.value(output) } }
    }

    /// An object of one member.
    static func member(_ name: String, _ shape: Shape) -> Reply {
        Reply(status: 200, shape: { _ in Shape.of(name, shape) }) { output, _ in .json { $0.value(.object([name: output])) } }
    }
}

extension Reply {
    /// A value with members of its own choosing, written by the closure.
    static func written(_ shape: Shape, _ write: @escaping @Sendable (Output, APIRequest, inout JSONWriter) -> Void) -> Reply {
        Reply(status: 200, shape: { _ in shape }) { output, request in .json { write(output, request, &$0) } }
    }

    /// `{"<name>": {...}}`
    static func one(_ view: View<Output>, _ parts: Parts = .whole, status: Int = 200) -> Reply {
        Reply(status: status, shape: { Shape.of("\(view.name)", view.shape(parts, version: $0)) }) { source, request in
            let plan = view.plan(parts, for: request)
            return .json(status) { writer in
                writer.beginObject()
                writer.key(view.name)
                plan.write(source, &writer)
                writer.endObject()
            }
        }
    }

    /// The members of the view, without a name around them.
    static func bare(_ view: View<Output>) -> Reply {
        Reply(status: 200, shape: { view.shape(.whole, version: $0) }) { source, request in
            let plan = view.plan(.whole, for: request)
            return .json { plan.write(source, &$0) }
        }
    }

    /// `{"<plural>": [...]}`: all there are.
    static func all<Source>(_ view: View<Source>, _ parts: Parts = .whole) -> Reply where Output == [Source] {
        Reply(status: 200, shape: { Shape.of("\(view.plural)", .list(view.shape(parts, version: $0))) }) { sources, request in
            let plan = view.plan(parts, for: request)
            return .json(capacity: 4096) { writer in
                writer.beginObject()
                writer.key(view.plural)
                plan.write(sources, &writer)
                writer.endObject()
            }
        }
    }

    /// With a header of its own.
    func header(
        _ name: String, _ text: String, _ set: @escaping @Sendable (Output, APIRequest, inout HTTPResponse) -> Void
    ) -> Reply {
        var answer = Reply(status: status, contentType: contentType, shape: shape) { [respond] output, request in
            var response = try respond(output, request)
            set(output, request, &response)
            return response
        }
        answer.headers = headers + [(name, text)]
        return answer
    }

    /// Where the handler gives nothing, another status without a body. `text` says when; nil: it never happens.
    func or(_ other: Int, _ text: String?) -> Reply<Output?> {
        var answer = Reply<Output?>(status: status, contentType: contentType, shape: shape) { [respond] output, request in
            guard let output else { return HTTPResponse(status: other, contentType: HTTPResponse.html) }
            return try respond(output, request)
        }
        answer.headers = headers
        if let text { answer.alternatives = [(other, text)] }
        return answer
    }
}
