import DriverHost
import HTTPClient
import Primitives

/// Brings an image's bytes, in order and each of them once: a request that ends too early is followed by one for the rest.
final class ImageDownload: @unchecked Sendable {
    private let requests: ImageRequests
    private let order: ImageOrder
    /// The image cannot be longer.
    private let most: UInt64
    private let pace: TransferPace

    private(set) var position: UInt64 = 0
    /// Bytes at the beginning of this answer that are there already.
    private var skip: UInt64 = 0
    private var failure: DriverFailure?
    /// Of the answer under way: a status that brings data.
    private var isData = false
    private var sink: (UnsafeRawBufferPointer) -> Bool = { _ in false }
    private var isWanted = true

    /// Bytes after which a failure is again the first.
    private static let stretch: UInt64 = 64 << 20

    init(_ requests: ImageRequests, most: UInt64, pace: TransferPace) {
        self.requests = requests
        order = requests.order
        self.most = most
        self.pace = pace
    }

    /// Brings all bytes; returns also when the sink wants no more.
    func run(into sink: @escaping (UnsafeRawBufferPointer) -> Bool) throws {
        self.sink = sink
        // It may hold this one.
        defer { self.sink = { _ in false } }
        while try !attempt() {}
    }

    /// Whether everything is there.
    private func attempt() throws -> Bool {
        let begin = position
        isData = false
        skip = 0
        var request = requests.request("GET")
        if begin > 0 { request.headers.append((name: "Range", value: "bytes=\(begin)-")) }
        request.onHead = { [self] status, headers in head(status, headers, from: begin) }
        request.onBody = { [self] bytes in body(bytes) }
        let outcome = requests.send(request)
        guard isWanted else { return true }
        if let failure { throw failure }
        if position - begin >= Self.stretch { requests.succeed() }
        let size = order.size.map { UInt64($0) }
        if isData {
            switch outcome {
            case .success where size == nil || position == size: return true
            case .failure where size == position: return true
            case .failure(let failure):
                try requests.again(DriverFailure(.retry, "the image service broke off after \(position) bytes: \(failure.description)"))
            case .success:
                // It says that this is all.
                try requests.again(
                    DriverFailure(.invalid, "the image is truncated: the image service has \(position) of its \(size ?? 0) bytes"))
            }
            return false
        }
        // Of an image without a byte there is no answer with one.
        if size == 0, case .success(let answer) = outcome, answer.status == 204 || answer.status == 200 { return true }
        if begin > 0, case .success(let answer) = outcome, answer.status == 416 {
            try requests.again(
                DriverFailure(.invalid, "the image is truncated: the image service has \(position) of its \(size ?? 0) bytes"))
            return false
        }
        try requests.judge(outcome)
        return false
    }

    private func head(_ status: Int, _ headers: [(name: String, value: String)], from begin: UInt64) -> Bool {
        guard !isData else { return true }
        switch status {
        case 200:
            isData = true
            // It knows no ranges: the image is what it was, so its beginning is passed over.
            skip = begin
        case 206:
            let range = headers.first { $0.name.lowercased() == "content-range" }?.value ?? ""
            guard begin > 0, range.lowercased().hasPrefix("bytes \(begin)-") else {
                failure = DriverFailure(.error, "the image service sends another range than the one from byte \(begin) on")
                return false
            }
            isData = true
        default: break
        }
        return true
    }

    private func body(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard isData else { return false }
        var bytes = bytes
        if skip > 0 {
            let count = Int(min(skip, UInt64(bytes.count)))
            skip -= UInt64(count)
            bytes = UnsafeRawBufferPointer(rebasing: bytes[count...])
        }
        guard UInt64(bytes.count) <= most - position else {
            failure = DriverFailure(
                .invalid,
                order.size.map { "the image is longer than its size, which is \($0) bytes" } ?? "the image is longer than \(most) bytes")
            return false
        }
        guard bytes.isEmpty || sink(bytes) else {
            isWanted = false
            return false
        }
        position += UInt64(bytes.count)
        pace.pass(UInt64(bytes.count))
        return true
    }
}
