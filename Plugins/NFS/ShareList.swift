import CDriver
import DriverKit

/// The shares that the configuration names.
enum ShareList {
    /// `nas_host` and `nas_share_path`, else the lines of `nfs_shares_config`: `host:/path [options]`, `#` begins a comment.
    static func addresses(_ call: Call) throws -> [ShareAddress] {
        let common = call.option("nas_mount_options") ?? call.option("nfs_mount_options")
        if let host = call.option("nas_host"), let path = call.option("nas_share_path") {
            return [try ShareAddress("\(host):\(path)", options: common)]
        }
        guard let text = try call.fileOption("nfs_shares_config") else {
            throw DriverError(CLINKER_BAD_CONFIGURATION, "nfs_shares_config is not set, nor are nas_host and nas_share_path")
        }
        var addresses: [ShareAddress] = []
        for line in text.split(whereSeparator: \.isNewline) {
            let words = line.split(maxSplits: 1, whereSeparator: \.isWhitespace).map(String.init)
            guard let share = words.first, !share.hasPrefix("#") else { continue }
            var options = words.count > 1 ? String(words[1].drop(while: \.isWhitespace)) : common
            if let given = options, given.hasPrefix("-o") { options = String(given.dropFirst(2).drop(while: \.isWhitespace)) }
            addresses.append(try ShareAddress(share.unescapingSpaces, options: options))
        }
        return addresses
    }
}

extension String {
    /// `\040` stands for a space, as in fstab.
    fileprivate var unescapingSpaces: String {
        var result = ""
        var rest = self[...]
        while let first = rest.first {
            if rest.hasPrefix("\\040") {
                result += " "
                rest = rest.dropFirst(4)
            } else {
                result.append(first)
                rest = rest.dropFirst()
            }
        }
        return result
    }
}
