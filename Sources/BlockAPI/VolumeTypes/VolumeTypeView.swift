import BlockStorage
import JSON
import Policy

extension Parts {
    /// The type's QoS, which answers to creations and changes leave out.
    static let qos = Parts(rawValue: 8)
    /// Whether everybody may use it, under the name that the extension os-volume-type-access gave it.
    static let access = Parts(rawValue: 16)
}

/// Volume types as clients see them.
enum VolumeTypeView {
    static let view = View<VolumeType>(
        "volume_type", "volume_types",
        [
            .text("id") { $0.id },
            .text("name") { $0.name },
            .flag("is_public") { $0.isPublic },
            .optionalText("description") { $0.description },
            Field.written("extra_specs", .map(.nullable(.text))) { type, _, writer in writer.value(.object(type.extraSpecs)) }
                .rule(reading),
            Field.written("extra_specs", .map(.nullable(.text))) { type, _, writer in writer.value(.object(visible(type.extraSpecs))) }
                .exceptRule(reading),
            Field.optionalText("qos_specs_id") { $0.qosSpecsID }.part(.qos).rule("volume_extension:access_types_qos_specs_id"),
            Field.flag("os-volume-type-access:is_public") { $0.isPublic }.part(.access),
        ])

    /// What users who are no administrators may see of a type.
    static let visibleSpecs: Set<String> = ["RESKEY:availability_zones", "multiattach", "replication_enabled"]

    static let reading: Policies.Rule = "volume_extension:types_extra_specs:read_sensitive"

    static func visibleSpecs(of type: VolumeType, to request: APIRequest) -> JSONObject { visible(type.extraSpecs, request) }

    static func visible(_ specs: JSONObject, _ request: APIRequest) -> JSONObject { request.allows(reading) ? specs : visible(specs) }

    private static func visible(_ specs: JSONObject) -> JSONObject {
        JSONObject(specs.members.filter { visibleSpecs.contains($0.name) })
    }
}
