/// What a resource takes of its project's quotas. It is charged twice: under the project, and under the resource's type.
public struct Charge: Sendable, Equatable {
    public var volumes: Int
    public var gigabytes: Int
    public var snapshots: Int

    public init(volumes: Int = 0, gigabytes: Int = 0, snapshots: Int = 0) {
        self.volumes = volumes
        self.gigabytes = gigabytes
        self.snapshots = snapshots
    }

    public static func + (a: Charge, b: Charge) -> Charge {
        Charge(volumes: a.volumes + b.volumes, gigabytes: a.gigabytes + b.gigabytes, snapshots: a.snapshots + b.snapshots)
    }

    public static prefix func - (charge: Charge) -> Charge {
        Charge(volumes: -charge.volumes, gigabytes: -charge.gigabytes, snapshots: -charge.snapshots)
    }

    /// Names of what is counted.
    static let names = ["gigabytes", "snapshots", "volumes"]

    /// The amounts that are not 0, by the names of `names`.
    private var amounts: [(name: String, amount: Int)] {
        [("gigabytes", gigabytes), ("snapshots", snapshots), ("volumes", volumes)].filter { $0.1 != 0 }
    }

    /// The rows that it changes under the name of a type, by name.
    func entries(ofType type: String) -> [(resource: String, amount: Int)] { amounts.map { ("\($0.name)_\(type)", $0.amount) } }

    /// All rows that it changes, by name.
    func entries(_ type: String) -> [(resource: String, amount: Int)] {
        (amounts.map { ($0.name, $0.amount) } + entries(ofType: type)).sorted { $0.0 < $1.0 }
    }
}

extension Volume {
    /// What the volume itself is charged.
    public var charge: Charge { consumesQuota ? Charge(volumes: 1, gigabytes: size) : Charge() }

    /// With its snapshots, which change their type with it: by the project that is charged, in their order. Snapshots may have stayed with the
    /// project that the volume was transferred from.
    public func charges(with snapshots: [Snapshot], chargesGigabytes: Bool) -> [(project: String, charge: Charge)] {
        var charges = [projectID: charge]
        for snapshot in snapshots {
            charges[snapshot.projectID, default: Charge()] =
                charges[snapshot.projectID, default: Charge()] + snapshot.charge(chargesGigabytes: chargesGigabytes)
        }
        return charges.sorted { $0.key < $1.key }.map { (project: $0.key, charge: $0.value) }
    }
}

extension Snapshot {
    /// What the snapshot is charged; its size only where that is charged at all.
    func charge(chargesGigabytes: Bool) -> Charge {
        consumesQuota ? Charge(gigabytes: chargesGigabytes ? size : 0, snapshots: 1) : Charge()
    }
}
