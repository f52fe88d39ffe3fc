import BlockStorage

/// Services as clients see them.
enum ServiceView {
    /// A service, and whether it is up.
    struct Source: Sendable {
        let service: Service
        let isUp: Bool
        fileprivate var isVolume: Bool { service.binary == "cinder-volume" }
    }

    static let view = View<Source>(
        "service", "services",
        [
            .text("binary") { $0.service.binary },
            .text("host") { $0.service.host },
            .text("zone") { $0.service.zone },
            .choice("status", ["enabled", "disabled"]) { $0.service.isDisabled ? "disabled" : "enabled" },
            .choice("state", ["up", "down"]) { $0.isUp ? "up" : "down" },
            .optionalTime("updated_at") { $0.service.heardAt },
            Field.text("backend_state") { $0.service.backendState ?? "down" }.since(49).when { $0.isVolume },
            Field.null("cluster").since(7),
            .optionalText("disabled_reason") { $0.service.disabledReason },
            Field.optionalText("replication_status") { $0.service.replicationStatus }.when { $0.isVolume },
            Field.optionalText("active_backend_id") { $0.service.activeBackendID }.when { $0.isVolume },
            Field.flag("frozen") { $0.service.isFrozen }.when { $0.isVolume },
        ])

    /// What an enabled or disabled service's answer says.
    struct Change: Sendable {
        let host, service, binary: String
        let isDisabled: Bool
        /// Shown where the change has a reason.
        var reason: String??
    }

    static let change = View<Change>(
        "service", "services", describedAs: "ServiceChange",
        [
            .text("host") { $0.host },
            .text("service") { $0.service },
            .text("binary") { $0.binary },
            .choice("status", ["enabled", "disabled"]) { $0.isDisabled ? "disabled" : "enabled" },
            .flag("disabled") { $0.isDisabled },
            Field.optionalText("disabled_reason") { $0.reason ?? nil }.when { $0.reason != nil },
        ])
}
