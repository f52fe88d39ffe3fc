import CDriver
import DiskImages
import DriverKit
import JSON
import NFSClient

/// A volume's files in a share, as Cinder lays them out: `volume-<id>`, for each snapshot an overlay `volume-<id>.<snapshot id>`
/// with the data written after it, and `volume-<id>.info`, which names the active file.
struct Chain {
    enum Format: String { case raw, qcow2 }

    let session: Session
    let volume: String
    /// The format of the base file; overlays are qcow2.
    let format: Format
    private(set) var active: String
    /// The overlay above each snapshot, by snapshot id.
    private(set) var overlays: [(id: String, file: String)]

    private static let longest = 256

    init(_ session: Session, volume: String, format: Format) throws {
        self.session = session
        self.volume = volume
        self.format = format
        active = volume
        overlays = []
        guard let bytes = try session.text(of: volume + ".info") else { return }
        guard let members = (try? JSON(parsing: bytes))?.object?.members else {
            throw DriverError(CLINKER_ERROR, "\(session.path(volume)).info cannot be read: it is no JSON object")
        }
        for member in members {
            guard let file = member.value.string, file == volume || Self.isOverlay(file, of: volume) else {
                throw DriverError(CLINKER_ERROR, "\(session.path(volume)).info names a file that is not the volume's: \(member.value.text)")
            }
            if member.name == "active" { active = file } else { overlays.append((member.name, file)) }
        }
    }

    static func isOverlay(_ file: String, of volume: String) -> Bool {
        // By bytes: a Character may be a slash with a combining mark.
        file.utf8.starts(with: (volume + ".").utf8) && file.utf8.allSatisfy { $0 > 0x20 && $0 != UInt8(ascii: "/") }
            && !file.hasSuffix(".info") && !file.hasSuffix(".partial")
    }

    func overlay(of snapshot: String) -> String? { overlays.first { $0.id == snapshot }?.file }

    // MARK: opening

    /// Opens a file and its backing files. Only names of this volume are followed, since a planted file may refer to other files.
    func open(_ name: String, writable: Bool, depth: Int = 0) throws -> any Layer {
        let file = try session.open(name, writable: writable)
        if name == volume {
            if format == .raw { return RawLayer(file) }
            if let header = try Qcow2Header.read(file), let backing = header.backing {
                throw DriverError(CLINKER_INVALID, "\(session.path(name)) has a backing file, '\(backing)', which it must not have")
            }
            return try Qcow2(file, over: nil)
        }
        guard let backing = try Qcow2Header.read(file)?.backing, backing == volume || Self.isOverlay(backing, of: volume),
            depth < Self.longest
        else { throw DriverError(CLINKER_ERROR, "\(session.path(name)) has no backing file of the volume") }
        let overlay = try Qcow2(file, over: try open(backing, writable: false, depth: depth + 1))
        overlay.say(backingFormat: formatName(backing))
        return overlay
    }

    /// Opens the backing file of the snapshot's overlay.
    func open(snapshot: String) throws -> any Layer {
        guard let file = overlay(of: snapshot) else { throw DriverError(CLINKER_NOT_FOUND, "\(volume) has no snapshot \(snapshot)") }
        return try open(try backing(of: file), writable: false)
    }

    func backing(of name: String) throws -> String {
        let file = try session.open(name, writable: false)
        defer { file.close() }
        guard let backing = try Qcow2Header.read(file)?.backing, backing == volume || Self.isOverlay(backing, of: volume) else {
            throw DriverError(CLINKER_ERROR, "\(session.path(name)) has no backing file of the volume")
        }
        return backing
    }

    func formatName(_ file: String) -> String { file == volume ? format.rawValue : Format.qcow2.rawValue }

    // MARK: snapshots

    /// Adds a new overlay, which becomes the active file.
    mutating func add(_ snapshot: String) throws {
        guard overlay(of: snapshot) == nil else { return }
        let file = volume + "." + snapshot
        try makeOverlay(file, over: active)
        overlays.append((snapshot, file))
        active = file
        try save()
    }

    private func makeOverlay(_ name: String, over below: String) throws {
        let layer = try open(below, writable: false)
        let size = try layer.size
        layer.close()
        let partial = name + ".partial"
        let file = try session.create(partial)
        do {
            defer { file.close() }
            try Qcow2.create(in: file, size: size, backing: (below, formatName(below)))
            try file.flush()
        }
        try session.rename(partial, to: name)
    }

    /// Merges the overlay above the snapshot into its backing file. It may be interrupted anywhere and repeated: while the overlay is in the
    /// chain it hides the data that was copied down.
    mutating func remove(_ snapshot: String, _ call: Call) throws {
        guard let file = overlay(of: snapshot) else {
            // It is not in the list any more; its file may still exist.
            let leftover = volume + "." + snapshot
            if leftover != active, try session.size(of: leftover) != nil, try !chain().contains(leftover) { try session.remove(leftover) }
            return
        }
        let below = try backing(of: file)
        if file == active {
            try merge(file, into: below, call)
            active = below
        } else if let above = try self.above(file) {
            try merge(file, into: below, call)
            let overlay = try Qcow2(try session.open(above, writable: true), over: nil)
            try overlay.rebase(to: (below, formatName(below)))
            overlay.close()
        }
        overlays.removeAll { $0.id == snapshot }
        try save()
        try session.remove(file)
    }

    /// Reverts to the latest snapshot by creating its overlay again.
    func revert(to snapshot: String) throws {
        guard let file = overlay(of: snapshot) else { throw DriverError(CLINKER_NOT_FOUND, "\(volume) has no snapshot \(snapshot)") }
        guard file == active else { throw DriverError(CLINKER_INVALID, "\(snapshot) is not the latest snapshot of \(volume)") }
        let size = try session.open(file, writable: false)
        let wanted = try Qcow2Header.read(size)?.size ?? 0
        size.close()
        try makeOverlay(file, over: try backing(of: file))
        let overlay = try open(file, writable: true)
        defer { overlay.close() }
        try overlay.grow(to: wanted)
    }

    /// The files from the active one down to the base.
    func chain() throws -> [String] {
        var files = [active]
        while let last = files.last, last != volume, files.count < Self.longest { files.append(try backing(of: last)) }
        return files
    }

    private func above(_ file: String) throws -> String? {
        let files = try chain()
        guard let index = files.firstIndex(of: file) else { return nil }
        return index == 0 ? nil : files[index - 1]
    }

    private func merge(_ file: String, into below: String, _ call: Call) throws {
        // Opened alone: data that it lacks is in the backing file already.
        let source = try Qcow2(try session.open(file, writable: false), over: nil)
        defer { source.close() }
        let target = try open(below, writable: true)
        defer { target.close() }
        let size = source.virtualSize
        try target.grow(to: size)
        let hole = UInt32(CLINKER_EXTENT_HOLE)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 4 << 20, alignment: 4096)
        defer { buffer.deallocate() }
        var failure: (any Error)?
        _ = try source.map(offset: 0, length: size) { offset, length, flags in
            if flags & hole != 0 { return true }
            do {
                if call.isCancelled { throw DriverError(CLINKER_CANCELLED, "cancelled") }
                if flags & UInt32(CLINKER_EXTENT_ZERO) != 0 {
                    try target.zero(offset: offset, length: length)
                } else {
                    var position = offset
                    while position < offset + length {
                        let piece = UnsafeMutableRawBufferPointer(
                            rebasing: buffer[..<Int(min(UInt64(buffer.count), offset + length - position))])
                        try source.read(piece, at: position)
                        try target.write(UnsafeRawBufferPointer(piece), at: position)
                        position += UInt64(piece.count)
                        call.progress(done: position, total: size)
                    }
                }
                return true
            } catch {
                failure = error
                return false
            }
        }
        if let failure { throw failure }
        try target.flush()
    }

    private func save() throws {
        if overlays.isEmpty { return try session.remove(volume + ".info") }
        let members = [(name: "active", value: JSON.string(active))] + overlays.map { (name: $0.id, value: JSON.string($0.file)) }
        try session.write(Array(JSON.object(JSONObject(members)).text.utf8), to: volume + ".info")
    }
}

/// A block handle on a volume or snapshot, with a connection of its own.
final class ChainHandle: BlockHandle {
    private let layer: any Layer
    private let share: Share
    private let session: Session
    private let writable: Bool

    init(_ layer: any Layer, _ share: Share, _ session: Session, writable: Bool) {
        self.layer = layer
        self.share = share
        self.session = session
        self.writable = writable
    }

    var size: UInt64 { get throws { try layer.size } }
    /// The largest request of libnfs.
    var blockSize: (minimum: UInt32, preferred: UInt32, maximum: UInt32) { (1, UInt32(NFSFile.most), 32 << 20) }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws {
        try within(offset, UInt64(buffer.count))
        try layer.read(buffer, at: offset)
    }

    func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws {
        try within(offset, UInt64(buffer.count))
        try mayWrite()
        try layer.write(buffer, at: offset)
    }

    func zero(offset: UInt64, length: UInt64) throws {
        try within(offset, length)
        try mayWrite()
        try layer.zero(offset: offset, length: length)
    }

    func flush() throws { if writable { try layer.flush() } }

    func extents(offset: UInt64, length: UInt64, _ each: (UInt64, UInt64, UInt32) -> Int32) throws -> Int32 {
        try within(offset, length)
        var stopped: Int32 = 0
        _ = try layer.map(offset: offset, length: length) {
            stopped = each($0, $1, $2)
            return stopped == 0
        }
        return stopped
    }

    func close() {
        layer.close()
        share.give(back: session)
    }

    private func mayWrite() throws {
        guard writable else { throw DriverError(CLINKER_INVALID, "the handle is for reading") }
    }

    private func within(_ offset: UInt64, _ length: UInt64) throws {
        let size = try layer.size
        guard offset <= size, length <= size - offset else {
            throw DriverError(CLINKER_INVALID, "\(length) bytes at \(offset) lie behind the end at \(size)")
        }
    }
}
