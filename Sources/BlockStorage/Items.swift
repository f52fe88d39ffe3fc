import JSON

/// Items that clients add to a resource, one request after the other: metadata, extra specs. They are read and written as a
/// whole whenever the resource is, so they are bounded.
extension JSONObject {
    static let mostItems = 256
    /// Bytes of the items as JSON.
    static let longestItems = 64 << 10

    /// The text to be stored; throws if it is too much, unless there was as much before. `what` names the items.
    func stored(_ what: String, before: JSONObject = [:]) throws -> String {
        let text = JSON.object(self).text
        guard count > before.count || text.utf8.count > Self.longestItems else { return text }
        guard count <= Self.mostItems else {
            throw StorageError.invalidInput("\(what) would have \(count) items, more than \(Self.mostItems)")
        }
        guard text.utf8.count <= Self.longestItems || text.utf8.count <= JSON.object(before).text.utf8.count else {
            throw StorageError.invalidInput("\(what) would have \(text.utf8.count) bytes, more than \(Self.longestItems)")
        }
        return text
    }
}
