import JSON
public import Logging
import Primitives

/// One record for every request that changes something, or would have: who, what, from where, and how it ended. Bodies, tokens and
/// other headers are no part of it.
public struct AuditLog: Sendable {
    public enum Form: Sendable {
        case line
        /// An event of the DMTF's Cloud Auditing Data Federation, as Keystone's audit middleware writes it.
        case cadf
    }

    private let log: Logger
    private let form: Form
    private let changesByGet: @Sendable (HTTPRequest) -> Bool

    /// - Parameter changesByGet: whether a request with the method GET changes something.
    public init(_ log: Logger, form: Form, changesByGet: @escaping @Sendable (HTTPRequest) -> Bool) {
        self.log = log
        self.form = form
        self.changesByGet = changesByGet
    }

    /// The status of a request whose client left before all of it had come.
    static let clientLeft = 499

    func write(_ request: HTTPRequest, status: Int) {
        switch request.method {
        case "HEAD", "OPTIONS": return
        case "GET": guard changesByGet(request) else { return }
        default: break
        }
        switch form {
        case .line:
            log.info(
                "\(Self.outcome(status))",
                metadata: [
                    "user": "\(request.identity?.userID ?? "-")", "project": "\(request.identity?.projectID ?? "-")",
                    "address": "\(request.remoteAddress)", "method": "\(request.method)", "path": "\(request.rawPath)",
                    "operation": "\(request.route.name)", "status": "\(status)", "request_id": "\(request.requestID)",
                ])
        case .cadf: log.info("\(Self.event(request, status: status).text)")
        }
    }

    private static func outcome(_ status: Int) -> String { (200..<400).contains(status) ? "success" : "failure" }

    /// The event of a request.
    static func event(_ request: HTTPRequest, status: Int) -> JSON {
        let action =
            switch request.method {
            case "POST": "create"
            case "DELETE": "delete"
            case "GET": "read"
            default: "update"
            }
        let identity = request.identity
        return [
            "typeURI": "http://schemas.dmtf.org/cloud/audit/1.0/event", "eventType": "activity", "id": .string(UUID.random()),
            "eventTime": .string(Timestamp.now() + "+00:00"), "action": .string(action), "outcome": .string(outcome(status)),
            "observer": ["id": "target"],
            "initiator": [
                "typeURI": "service/security/account/user", "id": JSON(identity?.userID ?? "unknown"),
                "project_id": JSON(identity?.projectID), "host": ["address": .string(request.remoteAddress)],
                "request_id": .string(request.requestID), "global_request_id": JSON(request.globalRequestID),
            ],
            "target": [
                "typeURI": .string("service/storage/block/" + request.route.name), "id": .string(request.rawPath), "name": "cinder",
            ],
            "requestPath": .string(request.rawPath), "reason": ["reasonType": "HTTP", "reasonCode": .string("\(status)")],
            "reporterchain": [["role": "modifier", "reporter": ["id": "target"], "reporterTime": .string(Timestamp.now() + "+00:00")]],
        ]
    }
}
