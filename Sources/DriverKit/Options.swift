import CDriver
import Glibc

/// Options of the backend's section, which `open` gets as text. What is wrong with one leaves the backend down, with a
/// message that names the option and the rule.
extension Call {
    /// A text option; empty counts as absent.
    public func option(_ name: String) -> String? {
        guard let value = string(name), !value.isEmpty else { return nil }
        return value
    }

    public func option(_ name: String, default otherwise: Int, in range: ClosedRange<Int> = 0...Int.max) throws -> Int {
        guard let text = option(name) else { return otherwise }
        guard let value = Int(text), range.contains(value) else {
            let most = range.upperBound == Int.max ? " or more" : " to \(range.upperBound)"
            throw DriverError(CLINKER_BAD_CONFIGURATION, "\(name) must be a whole number from \(range.lowerBound)\(most), not '\(text)'")
        }
        return value
    }

    public func option(_ name: String, default otherwise: Bool) throws -> Bool {
        guard let text = option(name) else { return otherwise }
        switch text.lowercased() {
        case "true", "yes", "on", "t", "y", "1": return true
        case "false", "no", "off", "f", "n", "0": return false
        default: throw DriverError(CLINKER_BAD_CONFIGURATION, "\(name) must be true or false, not '\(text)'")
        }
    }

    /// What the file holds that an option names, of at most 1 MiB; nil if the option is absent.
    public func fileOption(_ name: String) throws -> String? {
        guard let path = option(name) else { return nil }
        guard let file = fopen(path, "re") else {
            let code = errno
            throw DriverError(CLINKER_BAD_CONFIGURATION, "\(name): \(path) cannot be read: \(String(cString: strerror(code)))")
        }
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        let count = fread(&bytes, 1, bytes.count, file)
        return String(decoding: bytes.prefix(count), as: UTF8.self)
    }
}
