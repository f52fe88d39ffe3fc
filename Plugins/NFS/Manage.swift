import CDriver
import DiskImages
import DriverKit
import Glibc
import NFSClient

/// Lists existing files, takes them over as volumes, and releases them.
extension NFSDriver {
    func listVolumes(_ call: Call) throws {
        var failures: [DriverError] = []
        try call.list("volumes") {
            for share in shares {
                do { try share.with { try list($0, call) } } catch let error as DriverError { failures.append(error) }
            }
            if failures.count == shares.count, let first = failures.first { throw first }
        }
        call.list("problems") { for failure in failures { call.set(nil, failure.message) } }
    }

    private func list(_ session: Session, _ call: Call) throws {
        let files = try session.entries().filter { $0.isFile && !$0.name.hasPrefix(".") && !$0.name.hasSuffix(".partial") }
        let names = Set(files.map(\.name))
        var copied: [String: [String]] = [:]
        for file in files where Chain.Format.isRaw(ofLength: file.size) {
            guard let volume = Self.volume(ofOverlay: file.name) else { continue }
            copied[volume, default: []].append(String(decoding: file.name.utf8.suffix(36), as: UTF8.self))
        }
        var budget = Self.tablesPerList
        for file in files where !file.name.hasSuffix(".info") {
            if let volume = Self.volume(ofOverlay: file.name), names.contains(volume) { continue }
            guard let (bytes, overlays, refusal) = try describe(file, hasList: names.contains(file.name + ".info"), session, call, &budget)
            else {
                if let failure = session.failure { throw failure }
                continue
            }
            call.object(nil) {
                call.set("name", file.name)
                call.set("reference", session.path(file.name))
                call.set("bytes", Int64(bytes))
                call.set("size", Int64((bytes + 1_073_741_823) >> 30))
                let copies = (copied[file.name] ?? []).filter { id in !overlays.contains { $0.id == id } }
                let reason = file.links > 1 ? Self.shared : refusal ?? (copies.isEmpty ? nil : Self.hasSnapshots)
                if let reason { call.set("unsafe", reason) }
                call.list("snapshots") {
                    for id in overlays.map(\.id) + copies {
                        call.object(nil) {
                            call.set("name", "snapshot-" + id)
                            call.set("id", id)
                        }
                    }
                }
            }
        }
    }

    /// The volume's name within an overlay's name, `<name>.<snapshot id>`; the volume's name may contain dots itself.
    private static func volume(ofOverlay file: String) -> String? {
        let bytes = Array(file.utf8)
        guard bytes.count > 37, bytes[bytes.count - 37] == UInt8(ascii: "."), isID(bytes.suffix(36)) else { return nil }
        let volume = bytes.dropLast(37)
        guard volume.count >= 36, (volume.startIndex...(volume.endIndex - 36)).contains(where: { isID(volume[$0..<$0 + 36]) }) else {
            return nil
        }
        return String(decoding: volume, as: UTF8.self)
    }

    private static func isID(_ bytes: ArraySlice<UInt8>) -> Bool {
        bytes.count == 36
            && zip(0..., bytes).allSatisfy { position, byte in
                if [8, 13, 18, 23].contains(position) { return byte == UInt8(ascii: "-") }
                return (0x30...0x39).contains(byte) || (0x61...0x66).contains(byte) || (0x41...0x46).contains(byte)
            }
    }

    /// Bytes of qcow2 tables that one listing reads to determine which files can be managed.
    private static let tablesPerList: UInt64 = 64 << 20

    /// A file's virtual size, its overlays, and the reason why it cannot be managed; nil if it was deleted in the meantime.
    private func describe(
        _ entry: Session.Entry, hasList: Bool, _ session: Session, _ call: Call, _ budget: inout UInt64
    ) throws -> (UInt64, [(id: String, file: String)], refusal: String?)? {
        // A raw volume has its file's size, whatever its guest wrote to its beginning.
        if !hasList, Chain.Format.isRaw(ofLength: entry.size) { return (entry.size, [], nil) }
        do {
            let chain = try Chain(session, volume: entry.name, format: .raw)
            let file = try session.open(chain.active, writable: false)
            defer { file.close() }
            let refusal = chain.overlays.isEmpty ? nil : Self.hasSnapshots
            if chain.active == entry.name, Chain.Format.isRaw(ofLength: try file.size) { return (entry.size, chain.overlays, refusal) }
            guard let header = try Qcow2Header.read(file) else { return (entry.size, chain.overlays, refusal) }
            // Files of volumes are not examined.
            guard refusal == nil, !Self.isID(Array(entry.name.utf8).suffix(36)) else { return (header.size, chain.overlays, refusal) }
            defer { budget -= min(budget, header.tableBytes) }
            do { _ = try Chain.Format.ofForeign(entry.name, session, call, reading: budget) } catch let error as DriverError
                where ![CLINKER_NOT_FOUND, CLINKER_RETRY].contains(error.code)
            { return (header.size, [], error.message) }
            return (header.size, [], nil)
        } catch let error as DriverError where [CLINKER_NOT_FOUND, CLINKER_RETRY].contains(error.code) {
            return nil
        } catch let error as DriverError where error.code == CLINKER_INVALID {
            // A file that cannot be examined is listed with the reason.
            return (entry.size, [], error.message)
        }
    }

    private static let hasSnapshots = "it has snapshots"
    private static let shared = "it has another name: who has that writes to the same bytes"

    func manageVolume(_ call: Call) throws {
        let target = try name(call, "volume.name")
        var reference = try call.required(call.referenceArgument)
        var among = shares
        // Cinder's form, host:/path/file, or the file's name alone.
        if let share = shares.first(where: { reference.hasPrefix($0.address.text + "/") }) {
            reference = String(reference.dropFirst(share.address.text.utf8.count + 1))
            among = [share]
        }
        try check(reference)
        guard let share = try find(target) ?? (try find(reference, among: among)) else {
            throw DriverError(CLINKER_NOT_FOUND, "no share has a file \(reference)")
        }
        let format = try share.with { session -> Chain.Format in
            var length: UInt64?
            if reference != target, try session.size(of: reference) != nil {
                if try session.size(of: target) != nil { throw DriverError(CLINKER_EXISTS, "\(session.path(target)) exists already") }
                guard try Chain(session, volume: reference, format: .raw).overlays.isEmpty else {
                    throw DriverError(CLINKER_INVALID, "\(session.path(reference)) has snapshots")
                }
                if let owner = Self.volume(ofOverlay: reference), try session.size(of: owner) != nil {
                    throw DriverError(CLINKER_INVALID, "\(session.path(reference)) is of a snapshot of \(owner)")
                }
                guard try session.links(of: reference) == 1 else {
                    throw DriverError(CLINKER_INVALID, "\(session.path(reference)): \(Self.shared)")
                }
                _ = try Chain.Format.ofForeign(reference, session, call)
                length = try session.size(of: reference)
                try session.rename(reference, to: target)
            }
            do { return try takeOver(target, session, call) } catch {
                // After a failure the file gets its old name back.
                if let length { try? giveBack(target, as: reference, length, session) }
                throw error
            }
        }
        setData(call, share, format)
    }

    private func giveBack(_ target: String, as reference: String, _ length: UInt64, _ session: Session) throws {
        let file = try session.open(target, writable: true)
        defer { file.close() }
        // A raw file was extended to whole GiB.
        let size = try file.size
        if size > length, size == ((length + 1_073_741_823) >> 30) << 30 { try file.truncate(to: length) }
        try session.rename(target, to: reference)
    }

    private func takeOver(_ target: String, _ session: Session, _ call: Call) throws -> Chain.Format {
        let format = try Chain.Format.ofForeign(target, session, call)
        let layer = try Chain(session, volume: target, format: format).open(target, writable: true)
        defer { layer.close() }
        // Volumes are whole GiB; the added bytes read as zeroes.
        let size = max(1, (try layer.size + 1_073_741_823) >> 30)
        try layer.grow(to: size << 30)
        try layer.flush()
        if format == .qcow2 { try setApart(target, session) }
        call.set("size", Int64(size))
        return format
    }

    func renameVolume(_ call: Call) throws {
        let (old, new) = (try name(call, "source.name"), try name(call, "volume.name"))
        guard let share = try find(old, call) ?? (try find(new, call)) else {
            throw DriverError(CLINKER_NOT_FOUND, "no share has a file \(old)")
        }
        let format = try share.with { session in
            guard old != new, try session.size(of: old) != nil else { return try self.format(call, session, new) }
            guard try session.size(of: new) == nil else { throw DriverError(CLINKER_EXISTS, "\(session.path(new)) exists already") }
            let format = try self.format(call, session, old)
            guard try Chain(session, volume: old, format: format).overlays.isEmpty else {
                throw DriverError(CLINKER_UNSUPPORTED, "\(session.path(old)) has snapshots, which lead to it by its name")
            }
            try session.rename(old, to: new)
            return format
        }
        setData(call, share, format)
    }

    /// An unmanaged file keeps its content, but its recorded format is lost: its length must show the format.
    func unmanageVolume(_ call: Call) throws {
        let volume = try name(call, "volume.name")
        guard let share = try find(volume, call) else { return }
        try share.with { session in
            guard try format(call, session, volume) == .qcow2 else { return }
            try setApart(volume, session)
        }
    }

    /// Makes sure that a qcow2 file cannot be mistaken for a raw one.
    private func setApart(_ name: String, _ session: Session) throws {
        let file = try session.open(name, writable: true)
        defer { file.close() }
        try Chain.Format.setApart(file)
        try file.flush()
    }
}
