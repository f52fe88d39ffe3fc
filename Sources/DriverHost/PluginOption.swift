import CDriver
import Glibc

/// An option of the backend's section, as declared by a plugin.
public struct PluginOption: Sendable {
    public enum Kind: Sendable { case text, integer, real, boolean, list, secret, unused }

    public let name: String
    public let kind: Kind
    /// The range of a number.
    public let range: ClosedRange<Double>?
    /// The allowed texts; empty for any.
    public let choices: [String]
    /// The default.
    public let standard: String
    public let help: String

    /// nil for a declaration without a name.
    private init?(_ option: clinker_option) {
        guard let name = option.name.flatMap({ String(validatingCString: $0) }), !name.isEmpty else { return nil }
        func text(_ text: UnsafePointer<CChar>?) -> String { text.flatMap { String(validatingCString: $0) } ?? "" }
        self.name = name
        kind =
            switch option.type {
            case CLINKER_OPTION_INTEGER.rawValue: .integer
            case CLINKER_OPTION_REAL.rawValue: .real
            case CLINKER_OPTION_BOOLEAN.rawValue: .boolean
            case CLINKER_OPTION_LIST.rawValue: .list
            case CLINKER_OPTION_SECRET.rawValue: .secret
            case CLINKER_OPTION_UNUSED.rawValue: .unused
            default: .text
            }
        range = option.minimum < option.maximum ? option.minimum...option.maximum : nil
        choices = text(option.choices).split(separator: ",").map(String.init)
        standard = text(option.standard)
        help = text(option.help)
    }

    /// The options of a plugin's table; nil if it does not declare them.
    static func all(_ options: UnsafePointer<clinker_option>?, count: UInt32, size: UInt32) -> [PluginOption]? {
        guard let options else { return nil }
        let size = Int(size)
        guard size >= MemoryLayout<UnsafePointer<CChar>>.size, count <= 10_000 else { return nil }
        return (0..<Int(count)).compactMap { index in
            var option = clinker_option()
            withUnsafeMutableBytes(of: &option) { bytes in
                bytes.copyMemory(
                    from: UnsafeRawBufferPointer(start: UnsafeRawPointer(options) + index * size, count: min(size, bytes.count)))
            }
            return PluginOption(option)
        }
    }
}
