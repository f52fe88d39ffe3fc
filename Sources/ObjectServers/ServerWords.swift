/// What a server says, as it may be repeated to others.
public enum ServerWords {
    /// The first printable characters of a text, with no secret among them, nor the half of one that the end has cut.
    public static func shown(_ text: String, hiding secrets: [String], atMost limit: Int) -> String {
        let plain = String(String.UnicodeScalarView(text.unicodeScalars.filter { $0.value >= 0x20 && $0.value != 0x7F }))
        let hidden = secrets.reduce(plain) { $1.isEmpty ? $0 : $0.replacing($1, with: "(a key)") }
        return String(String.UnicodeScalarView(hidden.unicodeScalars.prefix(limit)))
    }
}
