import Primitives

/// Reads the bytes of the volume that an object holds, in order: never more than its recorded length, whatever lies in the store.
final class PlainReader {
    private let store: any ObjectStore
    private let name: String
    private let object: ChunkedObject
    private var decoder: (any StreamDecoder)?
    private let buffer: UnsafeMutableRawBufferPointer
    private var input = UnsafeRawBufferPointer(start: nil, count: 0)
    /// Bytes taken from the store.
    private(set) var offset: UInt64 = 0
    private var isStoreAtEnd = false
    private var hasEnded = false
    private var produced: UInt64 = 0

    /// - Parameter buffer: for what comes from the store; the caller keeps it.
    init(_ store: any ObjectStore, _ name: String, _ object: ChunkedObject, buffer: UnsafeMutableRawBufferPointer) {
        (self.store, self.name, self.object, self.buffer) = (store, name, object, buffer)
        decoder = object.compression.decoder()
    }

    private func damaged(_ reason: String) -> ChunkedFailure { .damaged("\(name) \(reason)") }

    private func refill() throws -> Bool {
        guard input.isEmpty, !isStoreAtEnd else { return !input.isEmpty }
        let count: Int
        do { count = try store.get(name, at: offset, into: buffer) } catch  where error.kind == .notFound { throw damaged("is missing") }
        offset += UInt64(count)
        isStoreAtEnd = count < buffer.count
        input = UnsafeRawBufferPointer(rebasing: buffer[..<count])
        return count > 0
    }

    /// Fills the whole target; the caller asks for no more than the recorded length in all.
    func read(into target: UnsafeMutableRawBufferPointer) throws {
        var done = 0
        while done < target.count {
            let room = UnsafeMutableRawBufferPointer(rebasing: target[done...])
            let count = decoder == nil ? try take(room) : try decode(room)
            guard let count else { throw damaged("ends after \(produced) of \(object.length) bytes") }
            done += count
            produced += UInt64(count)
        }
    }

    /// Bytes that were stored as they are; nil at the end. What is large enough goes straight to where it is wanted.
    private func take(_ room: UnsafeMutableRawBufferPointer) throws -> Int? {
        if input.isEmpty, !isStoreAtEnd, room.count >= buffer.count {
            let count: Int
            do { count = try store.get(name, at: offset, into: room) } catch  where error.kind == .notFound { throw damaged("is missing") }
            offset += UInt64(count)
            isStoreAtEnd = count < room.count
            return count > 0 ? count : nil
        }
        guard try refill() else { return nil }
        let count = min(room.count, input.count)
        room.copyMemory(from: UnsafeRawBufferPointer(rebasing: input[..<count]))
        input.removeFront(count)
        return count
    }

    /// Decompressed bytes; nil at the end.
    private func decode(_ room: UnsafeMutableRawBufferPointer) throws -> Int? {
        while true {
            let isMore = try refill()
            if hasEnded {
                guard isMore, object.compression != .zlib else { return nil }
                // Several streams one after the other mean what they hold together.
                decoder = object.compression.decoder()
                hasEnded = false
            }
            guard let decoder else { return nil }
            let before = input.count
            let (count, ended): (Int, Bool)
            do { (count, ended) = try decoder.decode(&input, into: room) } catch { throw damaged("is \(error)") }
            hasEnded = ended
            if count > 0 { return count }
            if !ended, input.count == before, try !refill() || input.count == before && before > 0 { return nil }
        }
    }

    /// Refuses an object that holds more than was read.
    func finish() throws {
        let isLonger = try withUnsafeTemporaryAllocation(byteCount: 1, alignment: 1) { room in
            (decoder == nil ? try take(room) : try decode(room)) != nil
        }
        guard !isLonger else { throw damaged("holds more than \(object.length) bytes") }
        guard decoder == nil || hasEnded else { throw damaged("is not complete") }
        guard input.isEmpty else { throw damaged("has bytes after its end") }
    }
}
