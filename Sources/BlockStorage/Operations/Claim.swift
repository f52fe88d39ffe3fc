/// What an operation needs for itself while it lasts.
public struct Claim: Sendable {
    public let resource: String
    public let isExclusive: Bool
    public static func exclusive(_ resource: String) -> Claim { Claim(resource: resource, isExclusive: true) }
    public static func shared(_ resource: String) -> Claim { Claim(resource: resource, isExclusive: false) }
}
