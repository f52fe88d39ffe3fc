/// An element of a server's answer. Of XML it knows elements, text, CDATA, comments and the five entities; attributes are skipped, and a
/// document type, which could define more entities, is refused.
public struct XMLElement: Sendable, Equatable {
    /// Without the prefix of a namespace.
    public private(set) var name: String
    /// What stands in it besides elements.
    public private(set) var text = ""
    public private(set) var children: [XMLElement] = []

    /// The text of the first child of the name.
    public subscript(name: String) -> String? { children.first { $0.name == name }?.text }

    public func all(_ name: String) -> [XMLElement] { children.filter { $0.name == name } }

    /// Text with what XML has a meaning for written as entities.
    public static func escaped(_ text: String) -> String {
        var bytes: [UInt8] = []
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "&"): bytes += Array("&amp;".utf8)
            case UInt8(ascii: "<"): bytes += Array("&lt;".utf8)
            case UInt8(ascii: ">"): bytes += Array("&gt;".utf8)
            case UInt8(ascii: "\""): bytes += Array("&quot;".utf8)
            default: bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Most elements of a document, and most that lie in each other.
    static let mostElements = 100_000
    static let deepest = 16

    /// The document's element; nil if the bytes are no such document.
    public init?(parsing bytes: [UInt8]) {
        guard
            let root = bytes.withUnsafeBufferPointer({ bytes -> XMLElement? in
                var reader = XMLReader(bytes)
                return reader.document()
            })
        else { return nil }
        self = root
    }

    fileprivate init(_ name: String) { self.name = name }

    fileprivate mutating func close(_ text: [UInt8]) { self.text = String(decoding: text, as: UTF8.self) }
    fileprivate mutating func append(_ child: XMLElement) { children.append(child) }
}

/// Reads a document from front to back, once.
private struct XMLReader {
    private let bytes: UnsafeBufferPointer<UInt8>
    private var place = 0
    private var count = 0

    init(_ bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

    private func begins(_ text: StaticString, at place: Int) -> Bool {
        guard bytes.count - place >= text.utf8CodeUnitCount else { return false }
        for index in 0..<text.utf8CodeUnitCount where bytes[place + index] != text.utf8Start[index] { return false }
        return true
    }

    private mutating func skip(_ text: StaticString) -> Bool {
        guard begins(text, at: place) else { return false }
        place += text.utf8CodeUnitCount
        return true
    }

    /// Goes behind the next occurrence of the text.
    private mutating func skip(through text: StaticString) -> Bool {
        while place < bytes.count {
            if skip(text) { return true }
            place += 1
        }
        return false
    }

    private mutating func skipSpace() { while place < bytes.count, [0x20, 0x09, 0x0A, 0x0D].contains(bytes[place]) { place += 1 } }

    mutating func document() -> XMLElement? {
        _ = skip("\u{FEFF}")
        while true {
            skipSpace()
            if begins("<?", at: place) {
                guard skip(through: "?>") else { return nil }
            } else if begins("<!--", at: place) {
                guard skip(through: "-->") else { return nil }
            } else {
                guard let root = element(depth: 0) else { return nil }
                // An answer that was cut, or that another follows, is none.
                skipSpace()
                return place == bytes.count ? root : nil
            }
        }
    }

    private mutating func element(depth: Int) -> XMLElement? {
        guard depth < XMLElement.deepest, skip("<"), let name = name() else { return nil }
        count += 1
        guard count <= XMLElement.mostElements else { return nil }
        var element = XMLElement(name)
        guard let isEmpty = endOfTag() else { return nil }
        if isEmpty { return element }
        var text: [UInt8] = []
        while place < bytes.count {
            if begins("</", at: place) {
                place += 2
                guard self.name() == name else { return nil }
                skipSpace()
                guard skip(">") else { return nil }
                element.close(text)
                return element
            }
            if begins("<!--", at: place) {
                guard skip(through: "-->") else { return nil }
            } else if skip("<![CDATA[") {
                let start = place
                guard skip(through: "]]>") else { return nil }
                text += bytes[start..<place - 3]
            } else if bytes[place] == UInt8(ascii: "<") {
                guard let child = self.element(depth: depth + 1) else { return nil }
                element.append(child)
            } else if bytes[place] == UInt8(ascii: "&") {
                guard let scalar = reference() else { return nil }
                text += Array(String(Character(scalar)).utf8)
            } else {
                text.append(bytes[place])
                place += 1
            }
        }
        return nil
    }

    /// A name, without the prefix of its namespace.
    private mutating func name() -> String? {
        let start = place
        while place < bytes.count, ![0x20, 0x09, 0x0A, 0x0D, 0x2F, 0x3E, 0x3C, 0x21, 0x3F, 0x26].contains(bytes[place]) { place += 1 }
        guard place > start, place - start <= 200 else { return nil }
        let whole = bytes[start..<place]
        return String(decoding: whole.split(separator: UInt8(ascii: ":")).last ?? whole[...], as: UTF8.self)
    }

    /// Goes behind the tag's end, over its attributes; whether it ends its element, too; nil if it has no end.
    private mutating func endOfTag() -> Bool? {
        while place < bytes.count {
            switch bytes[place] {
            case UInt8(ascii: ">"):
                place += 1
                return false
            case UInt8(ascii: "/"):
                place += 1
                return skip(">") ? true : nil
            case UInt8(ascii: "\""), UInt8(ascii: "'"):
                let quote = bytes[place]
                place += 1
                while place < bytes.count, bytes[place] != quote { place += 1 }
                guard place < bytes.count else { return nil }
                place += 1
            case UInt8(ascii: "<"): return nil
            default: place += 1
            }
        }
        return nil
    }

    private mutating func reference() -> Unicode.Scalar? {
        for (text, scalar) in [("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'")]
            as [(StaticString, Unicode.Scalar)]
        where skip(text) { return scalar }
        guard skip("&#") else { return nil }
        let radix = skip("x") ? 16 : 10
        let start = place
        while place < bytes.count, place - start < 9, bytes[place] != UInt8(ascii: ";") { place += 1 }
        let digits = String(decoding: bytes[start..<place], as: UTF8.self)
        guard skip(";"), let value = UInt32(digits, radix: radix) else { return nil }
        return Unicode.Scalar(value)
    }
}
