import Glibc
import JSON
import Primitives
public import Settings

/// The file of `resource_query_filters_file`: a JSON object of what each list may be filtered by. A list that it does not name may be
/// filtered by nothing. Where there is no file the standard ones hold.
public struct ResourceFilterFile: Sendable {
    public let path: String
    /// Whether the configuration names the file; then a missing file is a warning.
    private let isNamed: Bool

    private static let largest = 1 << 20
    private static let mostResources = 100
    private static let mostFilters = 500
    private static let longestName = 255

    /// - Parameter files: the configuration files; a relative path is resolved beside the last one.
    public init(_ settings: Settings, beside files: [String]) {
        path = Settings.path(settings[Options.api.resourceFilterFile], beside: files)
        isNamed = settings.isSet(Options.api.resourceFilterFile)
    }

    /// What the file says now.
    public func load() throws(SettingsError) -> ResourceFilters {
        guard let file = fopen(path, "re") else {
            if errno == ENOENT { return .standard }
            throw SettingsError([SystemError.last("cannot read the resource filters \(path)").description])
        }
        defer { fclose(file) }
        var info = stat()
        // Who can write it can let users ask for what only administrators may.
        if fstat(fileno(file), &info) == 0, let problem = FileTrust(info).writers(path) ?? PathTrust.exposure(above: path) {
            throw SettingsError([problem])
        }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65_536)
        while case let count = fread(&chunk, 1, chunk.count, file), count > 0 {
            bytes += chunk[..<count]
            guard bytes.count <= Self.largest else { throw SettingsError(["\(path): larger than 1 MiB is no file of resource filters"]) }
        }
        guard ferror(file) == 0 else { throw SettingsError(["cannot read the resource filters \(path): is it a file?"]) }
        return try Self.parse(bytes, name: path)
    }

    static func parse(_ bytes: [UInt8], name: String) throws(SettingsError) -> ResourceFilters {
        let json: JSON
        do throws(JSONError) { json = try JSON(parsing: bytes) } catch { throw SettingsError(["\(name): not JSON: \(error)"]) }
        guard let object = json.object else {
            throw SettingsError(["\(name): resource filters are an object of lists, as in {\"volume\": [\"name\"]}"])
        }
        guard object.count <= mostResources else { throw SettingsError(["\(name): more than \(mostResources) resources"]) }
        var all: [(resource: String, filters: [String])] = []
        var problems: [String] = []
        for (resource, value) in object.members {
            guard let items = value.array else {
                problems.append("\(name): \(shown(resource)) must be a list of names of filters")
                continue
            }
            guard items.count <= mostFilters else {
                problems.append("\(name): \(shown(resource)) has more than \(mostFilters) filters")
                continue
            }
            var filters: [String] = []
            for (index, item) in items.enumerated() {
                guard let filter = item.string, isName(filter) else {
                    problems.append("\(name): \(shown(resource))[\(index)] must be a filter's name: 1 to \(longestName) ASCII characters")
                    continue
                }
                filters.append(filter)
            }
            all.append((resource: resource, filters: filters))
        }
        guard problems.isEmpty else { throw SettingsError(problems) }
        return ResourceFilters(all)
    }

    private static func isName(_ text: String) -> Bool {
        (1...longestName).contains(text.utf8.count) && text.utf8.allSatisfy { (0x21..<0x7F).contains($0) }
    }

    /// What others wrote, in one line of a log.
    private static func shown(_ text: String) -> String { JSON.string(String(text.prefix(64))).text }

    /// Warnings about the file and what it says.
    public func warnings(_ filters: ResourceFilters) -> [String] {
        if access(path, F_OK) != 0 {
            return isNamed ? ["resource_query_filters_file: there is no \(path); the standard filters are in force"] : []
        }
        let known = Set(ResourceFilters.standard.all.map(\.resource))
        return filters.all.map(\.resource).filter { !known.contains($0) }.map { "\(path): \(Self.shown($0)) is filtered by no list" }
    }
}
