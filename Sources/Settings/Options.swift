/// Where the options of all targets are found: each target adds its group by an extension. `settings[Options.storage.quotaVolumes]`
/// is the value of one.
public enum Options {}

/// The options of one subject, as stored properties of type `Option`. Nothing else lists them.
public protocol DeclaredOptions: Sendable {}

extension DeclaredOptions {
    /// The declarations of all properties, in their order.
    var declarations: [OptionDeclaration] {
        Mirror(reflecting: self).children.compactMap { ($0.value as? any DeclaredOption)?.declaration }
    }
}

/// All options that a program knows: a name in a file that is none of them, or an option of Cinder's, is misspelt.
public struct OptionCatalogue: Sendable {
    /// Every option, in the order in which they are documented.
    public let all: [OptionDeclaration]
    /// Options that the section of every backend may have.
    let ofBackends: [OptionDeclaration]
    /// Options that the section of every store of backups may have, and [DEFAULT].
    let ofStores: [OptionDeclaration]

    public init(_ groups: any DeclaredOptions...) {
        all = groups.flatMap(\.declarations)
        ofBackends = all.filter { $0.section == .backend }
        ofStores = all.filter { $0.section == .store }
    }

    /// What `Settings` itself asks for.
    public static let common = OptionCatalogue(Options.service, Options.backend, Options.store)

    func find(_ section: String, _ name: String) -> OptionDeclaration? {
        all.first { $0.name == name && ($0.section == .group(section) || ($0.section == .store && section == "DEFAULT")) }
    }

    /// The option of that name that the section of every store of backups may have.
    func ofStore(_ name: String) -> OptionDeclaration? { ofStores.first { $0.name == name } }

    /// The option of that name that the section of every backend may have.
    func ofBackend(_ name: String) -> OptionDeclaration? { ofBackends.first { $0.name == name } }

    /// What is wrong with the name of a backend's option; nil: every backend has it, or it is one of `others`.
    public func problem(ofBackendOption name: String, besides others: [String]) -> String? {
        guard ofBackend(name) == nil, !others.contains(name) else { return nil }
        let nearest = NearestName.of(name, among: others + ofBackends.map(\.name))
        return "the driver has no such option" + (nearest.map { "; did you mean \($0)?" } ?? "")
    }

    func hasSection(_ section: String) -> Bool { all.contains { $0.section == .group(section) } }

    /// `[section] name` of the known option that is nearest to a misspelt one; one of the same section before others.
    func nearest(to name: String, in section: String) -> String? {
        let here = Set(all.filter { $0.section == .group(section) }.map(\.name)).union(CinderOptions.names(of: section).map(String.init))
        if let near = NearestName.of(name, among: Array(here)) { return "[\(section)] \(near)" }
        guard let near = NearestName.of(name, among: all.map(\.name)), let option = all.first(where: { $0.name == near }) else {
            return nil
        }
        return "[\(option.sectionName)] \(near)"
    }

    func nearest(toSection section: String, among backends: [String]) -> String? {
        NearestName.of(section, among: backends + all.map(\.sectionName))
    }
}
