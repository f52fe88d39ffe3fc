public import JSON

/// Name and version of a flow, as the operation log stores them. A changed list of steps, or a changed stored form, is a new version;
/// the versions that a supported release wrote stay runnable.
public struct FlowID: Hashable, Sendable, CustomStringConvertible {
    public let name: String
    public let version: Int

    public init(_ name: String, version: Int = 1) {
        self.name = name
        self.version = version
    }

    public var description: String { "\(name)/\(version)" }
}

/// What a request asks a flow for. The type names the flow, so that no flow is started with the arguments of another.
public protocol FlowArguments: JSONConvertible {
    static var flow: FlowID { get }
}

/// Of flows that record nothing.
public struct NoState: JSONConvertible {
    public static let members: [JSONMember<NoState>] = []
    public init() {}
}

/// Of a flow whose first step asks the scheduler: what a refused placement has been tried again for.
public protocol PlacementState: JSONConvertible {
    /// Backends that had not reported were waited for.
    var reportsAwaited: Bool { get set }
    /// The capacities were read again.
    var capacityRead: Bool { get set }
}

/// Of a flow with a step that copies.
public protocol CopyState: JSONConvertible {
    /// Bytes at the beginning that are copied and on stable storage; nil: nothing was copied, or all of it.
    var copied: Int? { get set }
}
