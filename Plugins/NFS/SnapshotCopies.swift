import CDriver
import DiskImages
import DriverKit
import Glibc
import NFSClient

/// The snapshots of an encrypted volume: whole copies, `volume-<id>.<snapshot id>`, beside the volume, which stays one raw file.
///
/// Overlays would not do: encryption of a qcow2 file is to hypervisors one inside of it, and none decrypts what lies in a raw file through an
/// overlay that is plain.
struct SnapshotCopies {
    let session: Session
    let volume: String
    /// Files take room only for what is written.
    let isSparse: Bool

    private static let piece = 4 << 20

    func name(_ snapshot: String) -> String { volume + "." + snapshot }

    func make(_ snapshot: String, _ call: Call) throws {
        // With its final name it is complete.
        guard try session.size(of: name(snapshot)) == nil else { return }
        try copy(volume, to: name(snapshot), size: 0, call)
    }

    func remove(_ snapshot: String) throws {
        try session.remove(name(snapshot) + ".partial")
        try session.remove(name(snapshot))
    }

    /// Replaces the volume's file at once by a copy of the snapshot of that size.
    func revert(to snapshot: String, size: UInt64, _ call: Call) throws {
        guard try session.size(of: name(snapshot)) != nil else { throw missing(snapshot) }
        try copy(name(snapshot), to: volume, size: size, call)
    }

    func open(_ snapshot: String) throws -> any Layer {
        guard try session.size(of: name(snapshot)) != nil else { throw missing(snapshot) }
        return RawLayer(try session.open(name(snapshot), writable: false))
    }

    /// The ids of a volume's snapshots among files of its share.
    static func ids(of volume: String, among entries: [Session.Entry]) -> [String] {
        entries.filter {
            // A file of another length is an overlay.
            $0.isFile && Chain.isOverlay($0.name, of: volume) && Chain.Format.isRaw(ofLength: $0.size)
        }.map { String(decoding: $0.name.utf8.dropFirst(volume.utf8.count + 1), as: UTF8.self) }
    }

    private func missing(_ snapshot: String) -> DriverError {
        DriverError(CLINKER_NOT_FOUND, "\(volume) has no snapshot \(snapshot)")
    }

    /// Copies a file; the new one has at least `size` bytes.
    private func copy(_ from: String, to name: String, size: UInt64, _ call: Call) throws {
        let partial = name + ".partial"
        let source = try session.open(from, writable: false)
        defer { source.close() }
        let length = try source.size
        let target = try session.create(partial)
        do {
            defer { target.close() }
            try target.truncate(to: max(size, length))
            let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.piece, alignment: 4096)
            defer { buffer.deallocate() }
            var position: UInt64 = 0
            while position < length {
                if call.isCancelled { throw DriverError(CLINKER_CANCELLED, "cancelled") }
                let part = UnsafeMutableRawBufferPointer(rebasing: buffer[..<Int(min(UInt64(buffer.count), length - position))])
                try source.read(part, at: position)
                if !isSparse || !part.isZero { try target.write(UnsafeRawBufferPointer(part), at: position) }
                position += UInt64(part.count)
                call.progress(done: position, total: length)
            }
            try target.flush()
        } catch {
            try? session.remove(partial)
            throw error
        }
        try session.rename(partial, to: name)
    }
}

extension UnsafeMutableRawBufferPointer {
    /// Whether all bytes are zero; of an empty buffer, too.
    fileprivate var isZero: Bool {
        guard let start = baseAddress, count > 0 else { return true }
        return self[0] == 0 && memcmp(start, start + 1, count - 1) == 0
    }
}
