import BlockStorage
import Database
import JSON

/// How a kind of operation is carried out: named steps, each of which can be taken back.
protocol FlowDefinition: Sendable {
    /// What the request asked for.
    associatedtype Arguments: JSONConvertible
    /// What finished steps recorded for later ones.
    associatedtype State: JSONConvertible = NoState

    /// Stored with every operation.
    static var id: FlowID { get }
    /// What happens to an operation that a process which died was carrying out.
    static var whenInterrupted: Interruption { get }
    /// A client waits for the flow's answer.
    static var isAwaited: Bool { get }
    /// Who may have it taken back.
    static var cancellation: Cancellation { get }
    static var steps: [Step<Self>] { get }

    /// After a failure, when every step was taken back (`failure.isUndone`) or could not be: sets the final states, or asks for another
    /// attempt.
    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome
}

extension FlowDefinition {
    static var whenInterrupted: Interruption { .resume }
    static var isAwaited: Bool { false }
    static var cancellation: Cancellation { .never }
}

extension FlowDefinition where Arguments: FlowArguments {
    static var id: FlowID { Arguments.flow }
}

/// Whether an interrupted operation is carried on, or taken back because the client that waited is gone.
enum Interruption: Sendable { case resume, revert }

/// Who may have an operation taken back: whoever may start one of its kind, if what it leaves then is whole.
enum Cancellation: Sendable { case never, byProject, byAdministrators }

/// What becomes of an operation that failed.
enum Outcome: Sendable {
    /// It has failed.
    case finished
    /// It is tried again from its first step.
    case retry
}
