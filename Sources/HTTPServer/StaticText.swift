/// A text that is shared by reference, for headers that are the same in many responses.
public final class StaticText: Sendable {
    public let text: String
    public init(_ text: String) { self.text = text }
}
