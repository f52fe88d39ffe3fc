import JSON
import Primitives

/// Reads the members of a record that somebody else wrote.
struct MemberReader {
    let object: JSONObject

    /// Cinder's columns hold 255 characters.
    func text(_ name: String) throws(ChunkedFailure) -> String? {
        guard let value = object[name], !value.isNull else { return nil }
        guard let text = value.string else { throw .invalid("\(name) of a backup record must be a text or null.") }
        guard text.unicodeScalars.count <= 255 else { throw .invalid("\(name) of a backup record is longer than 255 characters.") }
        guard !text.utf8.contains(0) else { throw .invalid("\(name) of a backup record has a NUL character.") }
        return text
    }

    func integer(_ name: String, _ range: ClosedRange<Int>) throws(ChunkedFailure) -> Int? {
        guard let value = object[name], !value.isNull else { return nil }
        guard let number = value.integer, let whole = Int(exactly: number), range.contains(whole) else {
            throw .invalid("\(name) of a backup record must be a whole number from \(range.lowerBound) to \(range.upperBound).")
        }
        return whole
    }

    func object(_ name: String) throws(ChunkedFailure) -> JSONObject {
        guard let value = object[name], !value.isNull else { return [:] }
        guard let object = value.object else { throw .invalid("\(name) of a backup record must be an object.") }
        return object
    }

    func time(_ name: String) throws(ChunkedFailure) -> String? {
        guard let text = try text(name) else { return nil }
        guard Timestamp.parse(text) != nil else { throw .invalid("\(name) of a backup record must be a time like 2026-11-29T17:00:00Z.") }
        return text
    }

    func flag(_ name: String) throws(ChunkedFailure) -> Bool {
        guard let value = object[name], !value.isNull else { return false }
        guard let flag = value.bool else { throw .invalid("\(name) of a backup record must be true or false.") }
        return flag
    }
}

/// Eight, four, four, four and twelve hexadecimal digits, joined by dashes.
func isUUID(_ text: String) -> Bool {
    let dashes = text.utf8.enumerated().filter { $0.element == UInt8(ascii: "-") }.map(\.offset)
    return text.utf8.count == 36 && dashes == [8, 13, 18, 23] && UUID.isUUIDLike(text)
}
