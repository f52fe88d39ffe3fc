public import DriverKit
import CDriver
import Glibc

/// For whom a request is made: a call of the host, or a writer, which outlives the call that opened it.
public struct Requester {
    /// What the requests made so far have shown: who makes many does not wait for each as long as for the first.
    fileprivate final class Experience {
        /// Why no answer came, however often the server was asked.
        var silence: DriverError?
        /// Whether repetitions are of no use, as far as is known.
        var isTired: Bool

        init(isTired: Bool) { self.isTired = isTired }
    }

    public let isCancelled: () -> Bool
    public let log: (String) -> Void
    fileprivate let experience: Experience

    /// Valid as long as the call.
    public init(_ call: Call) {
        isCancelled = { call.isCancelled }
        log = { call.log(CLINKER_INFO, $0) }
        experience = Experience(isTired: false)
    }

    private init(isTired: Bool) {
        isCancelled = { false }
        log = { _ in }
        experience = Experience(isTired: isTired)
    }

    /// Somebody who cannot be asked.
    public static var nobody: Requester { Requester(isTired: false) }
    /// Somebody who tidies up after a failure, and for whom nothing is repeated.
    public static var tidying: Requester { Requester(isTired: true) }
}

/// Why an attempt failed, and whether another one may succeed.
public struct Trouble: Error {
    public let error: DriverError
    public let isTemporary: Bool
    /// Whether nothing came that the server had said.
    public let isSilence: Bool
    /// Seconds that the server asks to be left alone.
    public let pause: Double?

    public init(_ error: DriverError, isTemporary: Bool = false, isSilence: Bool = false, pause: Double? = nil) {
        (self.error, self.isTemporary, self.isSilence, self.pause) = (error, isTemporary, isSilence, pause)
    }

    /// What no response came to.
    public init(_ failure: HTTPFailure, _ what: String) {
        let code: clinker_code =
            switch failure.kind {
            case .temporary: CLINKER_RETRY
            case .configuration: CLINKER_BAD_CONFIGURATION
            case .cancelled: CLINKER_CANCELLED
            case .tooLong: CLINKER_ERROR
            }
        self.init(
            DriverError(code, "\(what): \(failure.words)"), isTemporary: failure.kind == .temporary,
            isSilence: failure.kind == .temporary && !failure.isAnswer)
    }
}

/// How often a request is sent that meets trouble which may pass, and how long is waited in between.
public struct Attempts: Sendable {
    /// The first one included.
    public let count: Int
    /// Seconds before the second attempt; before each further one twice as many, up to the longest.
    private let first, longest: Double

    public init(_ count: Int, first: Double = 0.2, longest: Double = 20) {
        (self.count, self.first, self.longest) = (max(1, count), first, longest)
    }

    /// After one request that nobody answered, whoever made it hears the same at once of all others; after one that was repeated in vain
    /// nothing more is repeated.
    ///
    /// - Parameter body: gets the number of the attempt, from 0, and throws ``Trouble``.
    public func run<T>(_ requester: Requester, _ body: (Int) throws -> T) throws -> T {
        if let silence = requester.experience.silence { throw silence }
        let count = requester.experience.isTired ? 1 : count
        var number = 0
        while true {
            do { return try body(number) } catch let trouble as Trouble {
                number += 1
                guard trouble.isTemporary, number < count else {
                    if trouble.isTemporary { requester.experience.isTired = true }
                    if trouble.isSilence { requester.experience.silence = trouble.error }
                    throw trouble.error
                }
                // Many who failed together do not come back together.
                let pause = max(min(longest, first * Double(1 << min(number - 1, 16))) * Double.random(in: 0.5...1), trouble.pause ?? 0)
                requester.log("\(trouble.error.message); attempt \(number + 1) of \(count)")
                try sleep(pause, requester)
            }
        }
    }

    private func sleep(_ seconds: Double, _ requester: Requester) throws {
        var rest = seconds
        while rest > 0 {
            if requester.isCancelled() { throw DriverError(CLINKER_CANCELLED, "cancelled") }
            usleep(UInt32(min(rest, 0.1) * 1_000_000))
            rest -= 0.1
        }
    }
}
