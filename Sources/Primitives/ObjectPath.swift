/// Paths that are part of the names of a store's objects.
public enum ObjectPath {
    /// Whether it is a relative path without empty, hidden or upward parts.
    public static func isValid(_ text: String) -> Bool {
        text.utf8.count <= 512 && text.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F }
            && text.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).allSatisfy {
                !$0.isEmpty && $0.first != UInt8(ascii: ".")
            }
    }

    /// What `isContainer` asks for, in words.
    public static let containerRule =
        "it is a path below the store, of names of 1 to 255 bytes between slashes, none of which begins with a dot, and of 512 bytes and no "
        + "control characters in all"

    /// Whether a store can have a container of that path. Every store's objects may become files, whose names have a limit.
    public static func isContainer(_ text: String) -> Bool {
        isValid(text) && text.utf8.split(separator: UInt8(ascii: "/")).allSatisfy { $0.count <= 255 }
    }
}
