/// Who acts, and under which request.
public struct Caller: Sendable {
    public let userID: String
    public let projectID: String
    public let isAdmin: Bool
    public let requestID: String

    public init(userID: String, projectID: String, isAdmin: Bool, requestID: String) {
        self.userID = userID
        self.projectID = projectID
        self.isAdmin = isAdmin
        self.requestID = requestID
    }

    /// The service itself.
    public static func service(requestID: String) -> Caller {
        Caller(userID: "clinker", projectID: "clinker", isAdmin: true, requestID: requestID)
    }
}
