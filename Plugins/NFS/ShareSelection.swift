import CDriver
import DriverKit
import JSON
import NFSClient

/// Which share a volume lies on, which one takes a new volume, and what is asked of all of them.
extension NFSDriver {
    func withChain(_ call: Call, _ body: (inout Chain) throws -> Void) throws {
        let volume = try name(call, "volume.name")
        let share = try share(of: volume, call)
        try share.with { session in
            var chain = try Chain(session, volume: volume, format: format(call, session, volume))
            try body(&chain)
        }
    }

    /// The share of a volume: the one recorded when it was created, else the one that has its file.
    func share(of volume: String, _ call: Call) throws -> Share {
        guard let share = try find(volume, call) else { throw DriverError(CLINKER_NOT_FOUND, "no share has a file \(volume)") }
        return share
    }

    func find(_ volume: String, _ call: Call) throws -> Share? {
        if let text = data(call)?["share"]?.string, let share = shares.first(where: { $0.address.text == text }) {
            if try share.with({ try $0.size(of: volume) }) != nil { return share }
        }
        return try find(volume)
    }

    /// Throws if the file may be on a share that does not reply.
    func find(_ name: String, among some: [Share]? = nil) throws -> Share? {
        let (share, failure) = look(for: name, among: some ?? shares)
        if share == nil, let failure { throw DriverError(CLINKER_RETRY, failure.message) }
        return share
    }

    /// The share that has the file; else the reason why not all shares could be asked.
    func look(for name: String, among some: [Share]) -> (share: Share?, failure: DriverError?) {
        var failure: DriverError?
        for share in some {
            do { if try share.with({ try $0.size(of: name) }) != nil { return (share, nil) } } catch let error as DriverError {
                failure = error
            } catch {}
        }
        return (nil, failure)
    }

    /// The share with the fewest allocated bytes among those with enough space.
    func choose(_ size: UInt64, _ format: Chain.Format) throws -> Share {
        var best: (share: Share, provisioned: UInt64)?
        var failure: DriverError?
        for share in shares where share.refusal == nil {
            do {
                let (capacity, provisioned) = try share.with { (try $0.capacity(), try Self.provisioned(try $0.entries())) }
                let used = Double(capacity.total - min(capacity.total, capacity.free)) / Double(max(1, capacity.total))
                let limit = isSparse || format == .qcow2 ? overSubscription : 1
                guard used <= 1 - Double(reservedPercentage) / 100, isSparse || format == .qcow2 || capacity.free > size,
                    Double(provisioned + size) / Double(max(1, capacity.total)) < limit
                else { continue }
                if best.map({ provisioned < $0.provisioned }) ?? true { best = (share, provisioned) }
            } catch let error as DriverError { failure = error }
        }
        if let best { return best.share }
        throw failure ?? DriverError(CLINKER_NO_SPACE, "no share has room for \(size >> 30) GiB")
    }

    /// Runs the closure for every share that answers, and returns which do not; throws if none does.
    func onEach(_ call: Call, _ body: (Session) throws -> Void) throws {
        var failures: [DriverError] = []
        for share in shares {
            if let refusal = share.refusal {
                failures.append(refusal)
                continue
            }
            do { try share.with(body) } catch let error as DriverError where error.code != CLINKER_CANCELLED {
                failures.append(error)
            }
        }
        if failures.count == shares.count, let first = failures.first { throw first }
        call.list("problems") { for failure in failures { call.set(nil, failure.message) } }
    }

    static func provisioned(_ entries: [Session.Entry]) throws -> UInt64 {
        entries.reduce(0) { $1.isFile && !$1.name.hasPrefix(".") ? $0 + $1.size : $0 }
    }
}
