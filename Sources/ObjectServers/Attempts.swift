public import DriverKit
import CDriver
import Glibc

/// For whom a request is made: a call of the host, or a writer, which outlives the call that opened it.
public struct Requester {
    public let isCancelled: () -> Bool
    public let log: (String) -> Void

    /// Valid as long as the call.
    public init(_ call: Call) {
        isCancelled = { call.isCancelled }
        log = { call.log(CLINKER_INFO, $0) }
    }

    private init() {
        isCancelled = { false }
        log = { _ in }
    }

    /// Somebody who cannot be asked.
    public static var nobody: Requester { Requester() }
}

/// Why an attempt failed, and whether another one may succeed.
public struct Trouble: Error {
    public let error: DriverError
    public let isTemporary: Bool
    /// Seconds that the server asks to be left alone.
    public let pause: Double?

    public init(_ error: DriverError, isTemporary: Bool = false, pause: Double? = nil) {
        (self.error, self.isTemporary, self.pause) = (error, isTemporary, pause)
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
        self.init(DriverError(code, "\(what): \(failure.words)"), isTemporary: failure.kind == .temporary)
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

    /// - Parameter body: gets the number of the attempt, from 0, and throws ``Trouble``.
    public func run<T>(_ requester: Requester, _ body: (Int) throws -> T) throws -> T {
        var number = 0
        while true {
            do { return try body(number) } catch let trouble as Trouble {
                number += 1
                guard trouble.isTemporary, number < count else { throw trouble.error }
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
