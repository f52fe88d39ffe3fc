import DriverHost
import JSON

extension DriverValue {
    /// As JSON, secrets in the clear: for the client that the value is for.
    var json: JSON {
        switch self {
        case .null: .null
        case .boolean(let value): .bool(value)
        case .integer(let value): .integer(value)
        case .real(let value): .real(value)
        case .string(let value), .secret(let value): .string(value)
        case .list(let items): .array(items.map(\.json))
        case .object(let members): .object(JSONObject(members.map { (name: $0.name, value: $0.value.json) }))
        }
    }

    init(_ json: JSON) {
        switch json {
        case .null: self = .null
        case .bool(let value): self = .boolean(value)
        case .integer(let value): self = .integer(value)
        case .real(let value): self = .real(value)
        case .string(let value): self = .string(value)
        case .array(let items): self = .list(items.map { DriverValue($0) })
        case .object(let object): self = .object(object.members.map { Member($0.name, DriverValue($0.value)) })
        }
    }
}
