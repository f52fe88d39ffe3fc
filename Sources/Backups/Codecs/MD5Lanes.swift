import CCrypto
import Primitives

/// MD5 of buffers of several threads, up to four at a time by whichever thread needs one of them: MD5 cannot use more of a core for one
/// buffer alone.
final class MD5Lanes: Sendable {
    /// The hash of one buffer.
    final class Job: @unchecked Sendable {
        // What has changed since the beginning belongs to whoever took the job, else to whoever holds the lock.
        fileprivate var rest: UnsafeRawBufferPointer
        fileprivate var words: [UInt32] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476]
        fileprivate let count: Int
        fileprivate var isTaken = false
        fileprivate var value: MD5.Value?
        /// Posted when the job is given back, if its owner waits.
        fileprivate let back = Semaphore()
        fileprivate var isAwaited = false

        fileprivate init(_ bytes: UnsafeRawBufferPointer) {
            rest = bytes
            count = bytes.count
        }
    }

    private static let lanes = 4
    /// Bytes of each buffer until others may join.
    private static let turn = 1 << 20
    private static let block = 64
    /// Jobs that are neither finished nor withdrawn.
    private let jobs = Guarded<[Job]>([])

    /// Begins a hash. The bytes must stay as they are until `value` or `withdraw`.
    func submit(_ bytes: UnsafeRawBufferPointer) -> Job {
        let job = Job(bytes)
        jobs.withLock { $0.append(job) }
        return job
    }

    /// Waits for a hash, or computes it together with those that others wait for.
    func value(of job: Job) -> MD5.Value {
        while true {
            enum Next { case done(MD5.Value), wait, work([Job]) }
            let next = jobs.withLock { jobs -> Next in
                if let value = job.value { return .done(value) }
                if job.isTaken {
                    job.isAwaited = true
                    return .wait
                }
                let team = [job] + jobs.filter { $0 !== job && !$0.isTaken && $0.rest.count >= Self.block }.prefix(Self.lanes - 1)
                for member in team { member.isTaken = true }
                return .work(team)
            }
            switch next {
            case .done(let value): return value
            case .wait: job.back.wait()
            case .work(let team):
                Self.advance(team)
                jobs.withLock { jobs in
                    for member in team { Self.giveBack(member) }
                    jobs.removeAll { $0.value != nil }
                }
            }
        }
    }

    /// Gives a hash up: nobody reads its bytes any more. After `value` nothing is to be given up.
    func withdraw(_ job: Job) {
        while true {
            let isOut = jobs.withLock { jobs in
                guard !job.isTaken else {
                    job.isAwaited = true
                    return false
                }
                jobs.removeAll { $0 === job }
                return true
            }
            if isOut { return }
            job.back.wait()
        }
    }

    /// Whoever took it has done a part of it.
    private static func giveBack(_ job: Job) {
        job.isTaken = false
        if job.rest.count < block { job.value = finish(job) }
        guard job.isAwaited else { return }
        job.isAwaited = false
        job.back.post()
    }

    /// Hashes as much of each as all of them have.
    private static func advance(_ team: [Job]) {
        let blocks = min(turn, team.map(\.rest.count).min() ?? 0) / block
        guard blocks > 0 else { return }
        // What has no job computes the first one once more.
        let members = (0..<lanes).map { $0 < team.count ? team[$0] : team[0] }
        let bytes = members.map { $0.rest.baseAddress?.assumingMemoryBound(to: UInt8.self) }
        var state = (0..<4).flatMap { word in members.map { $0.words[word] } }
        clinker_md5_four(bytes, blocks, &state)
        for (lane, job) in team.enumerated() {
            for word in 0..<4 { job.words[word] = state[word * lanes + lane] }
            job.rest = UnsafeRawBufferPointer(rebasing: job.rest[(blocks * block)...])
        }
    }

    /// Of what is less than a block, the padding and the length.
    private static func finish(_ job: Job) -> MD5.Value {
        var last = Array(job.rest) + [0x80]
        while last.count % block != block - 8 { last.append(0) }
        for byte in 0..<8 { last.append(UInt8(truncatingIfNeeded: (UInt64(job.count) << 3) >> UInt64(byte * 8))) }
        var state = job.words.flatMap { [$0, $0, $0, $0] }
        last.withUnsafeBufferPointer {
            clinker_md5_four([$0.baseAddress, $0.baseAddress, $0.baseAddress, $0.baseAddress], $0.count / block, &state)
        }
        return MD5.Value(words: (0..<4).map { state[$0 * lanes] })
    }
}
