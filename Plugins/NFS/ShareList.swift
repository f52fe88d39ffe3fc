import CDriver
import DriverKit
import NFSClient

/// The configured shares without duplicates, and the problems of invalid lines.
struct ShareList {
    private(set) var addresses: [ShareAddress] = []
    private(set) var problems: [DriverError] = []

    /// Reads `nas_host` and `nas_share_path`, else the lines of `nfs_shares_config`: `host:/path [options]`, `#` begins a comment. Throws
    /// if there is no valid share.
    init(_ call: Call) throws {
        let common = try call.given(NFSOptions.nasMountOptions) ?? call.given(NFSOptions.mountOptions)
        if let host = try call.given(NFSOptions.host), let path = try call.given(NFSOptions.sharePath) {
            let isBare = host.utf8.contains(UInt8(ascii: ":")) && !host.hasPrefix("[")
            addresses = [try ShareAddress(isBare ? "[\(host)]:\(path)" : "\(host):\(path)", options: common)]
            return
        }
        guard let text = try call.file(NFSOptions.sharesFile) else {
            throw DriverError(CLINKER_BAD_CONFIGURATION, "nfs_shares_config is not set, nor are nas_host and nas_share_path")
        }
        for line in text.split(whereSeparator: \.isNewline) {
            let words = line.split(maxSplits: 1, whereSeparator: \.isWhitespace).map(String.init)
            guard let share = words.first, !share.hasPrefix("#") else { continue }
            var options = words.count > 1 ? String(words[1].drop(while: \.isWhitespace)) : common
            if let given = options, given.hasPrefix("-o") { options = String(given.dropFirst(2).drop(while: \.isWhitespace)) }
            do {
                let address = try ShareAddress(share.unescapingSpaces, options: options)
                // The capacity of a share that is listed twice counts once.
                if !addresses.contains(where: { $0.text == address.text }) { addresses.append(address) }
            } catch { problems.append(error) }
        }
        guard addresses.isEmpty else { return }
        throw problems.isEmpty
            ? DriverError(CLINKER_BAD_CONFIGURATION, "nfs_shares_config names no share")
            : DriverError(CLINKER_BAD_CONFIGURATION, problems.map(\.message).joined(separator: "; "))
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
