import ArgumentParser
import DriverHost
import Glibc
import Primitives
import Processes
import Settings

/// Writes the directory of a new driver, which builds with `make` and passes the conformance suite.
struct DriverNew: ParsableCommand {
    enum Language: String, ExpressibleByArgument, CaseIterable { case c, rust, swift }

    static let configuration = CommandConfiguration(
        commandName: "new", abstract: "Write the folder of a new driver or store, which builds and passes `clinker driver check` at once.",
        discussion: "The folder of one in C or Rust needs nothing else; one in Swift names the checkout whose DriverKit it uses.")

    @Argument(help: "The driver's name: lower case letters and digits.") var name: String
    @ArgumentParser.Option(help: "c, rust or swift.") var language: Language
    @ArgumentParser.Option(help: "volume, or store for a store of backups.") var kind = PluginKind.volume
    @ArgumentParser.Option(help: "Where to make the folder.") var directory = "."
    @ArgumentParser.Option(help: "For swift: a checkout of Clinker, whose DriverKit is used; found beside this program if not said.")
    var clinker: String?

    func run() throws {
        do {
            guard name.utf8.first.map({ (97...122).contains($0) }) ?? false, name.utf8.count <= 40,
                name.utf8.allSatisfy({ (97...122).contains($0) || (48...57).contains($0) })
            else { throw SettingsError(["the name must be lower case letters and digits, a letter first, not '\(name)'"]) }
            let folder = "\(directory)/\(name)"
            guard mkdir(folder, 0o755) == 0 else {
                throw SettingsError([SystemError.last("cannot make \(folder)").description])
            }
            for file in try files() { try write(file.text, to: "\(folder)/\(file.path)") }
            print("\(folder) is ready. Build and check it there with: make check CLINKER=\(executablePath())")
            print("What each call must do is in clinker/driver.h, and in Plugins/README.md of Clinker's sources.")
        } catch { Exit.fail(error, status: 2) }
    }

    private func files() throws -> [(path: String, text: String)] {
        let title = name.prefix(1).uppercased() + name.dropFirst()
        func own(_ bytes: [UInt8]) -> String {
            String(decoding: bytes, as: UTF8.self).replacing("Example", with: title).replacing("example", with: name)
        }
        let header = (path: "clinker/driver.h", text: String(decoding: PackageResources.driver_h, as: UTF8.self))
        let isStore = kind == .store
        switch language {
        case .c:
            let build = "cc -std=c11 -O2 -Wall -Wextra -fPIC -shared -I. -o $@ \(name).c"
            return [
                ("\(name).c", own(isStore ? PackageResources.store_c : PackageResources.template_c)), header,
                ("Makefile", makefile("clinker-\(name).so", from: "\(name).c clinker/driver.h", build)),
            ]
        case .rust:
            let build = "rustc --edition 2021 --crate-type cdylib -O -o $@ \(name).rs"
            let interfaces = isStore ? "clinker.rs clinker_store.rs" : "clinker.rs"
            return [
                ("\(name).rs", own(isStore ? PackageResources.store_rs : PackageResources.template_rs)),
                ("clinker.rs", String(decoding: PackageResources.clinker_rs, as: UTF8.self)),
                ("Makefile", makefile("clinker-\(name).so", from: "\(name).rs \(interfaces)", build)),
            ] + (isStore ? [("clinker_store.rs", String(decoding: PackageResources.clinker_store_rs, as: UTF8.self))] : [])
        case .swift:
            let target = title + (isStore ? "Store" : "Driver")
            let package = """
                // swift-tools-version: 6.2
                import PackageDescription

                let package = Package(
                    name: "clinker-\(name)",
                    products: [.library(name: "Clinker\(title)", type: .dynamic, targets: ["\(target)"])],
                    dependencies: [.package(name: "clinker", path: "\(try checkout())")],
                    targets: [.target(name: "\(target)", dependencies: [.product(name: "DriverKit", package: "clinker")])])

                """
            let source = "Sources/\(target)/\(target).swift"
            let build = "swift build -c release && cp .build/release/$@ ."
            return [
                ("Package.swift", package), (source, own(isStore ? PackageResources.store_swift_txt : PackageResources.template_swift_txt)),
                ("Makefile", makefile("libClinker\(title).so", from: "Package.swift \(source)", build)),
            ]
        }
    }

    private func makefile(_ product: String, from sources: String, _ build: String) -> String {
        """
        # The program: make check CLINKER=/path/of/clinker
        CLINKER ?= clinker

        \(product): \(sources)
        \t\(build)

        .PHONY: check
        check: \(product)
        \t$(CLINKER) driver check ./\(product)

        """
    }

    /// The checkout that this program was built from.
    private func checkout() throws -> String {
        var path = clinker ?? executablePath()
        if clinker == nil {
            while !path.isEmpty, access(path + "/Sources/DriverKit", F_OK) != 0 {
                path = String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)])
            }
        }
        guard let real = realpath(path.isEmpty ? "/nonexistent" : path, nil) else {
            throw SettingsError(["DriverKit comes with Clinker's sources: say where a checkout lies with --clinker"])
        }
        defer { free(real) }
        let root = String(cString: real)
        guard access(root + "/Sources/DriverKit", F_OK) == 0 else { throw SettingsError(["\(root) is no checkout of Clinker"]) }
        return root
    }

    private func write(_ text: String, to path: String) throws {
        var partial = ""
        for component in path.split(separator: "/", omittingEmptySubsequences: false).dropLast() {
            partial += component + "/"
            if mkdir(partial, 0o755) != 0, errno != EEXIST { throw failure(partial) }
        }
        guard let file = fopen(path, "wxe") else { throw failure(path) }
        let written = fputs(text, file)
        guard fclose(file) == 0, written >= 0 else { throw failure(path) }
    }

    private func failure(_ path: String) -> SettingsError {
        SettingsError([SystemError.last("cannot write \(path)").description])
    }
}

extension String {
    /// Replaces every occurrence.
    fileprivate func replacing(_ old: String, with new: String) -> String {
        var (result, rest) = ("", self[...])
        while let first = rest.first {
            if rest.hasPrefix(old) {
                result += new
                rest = rest.dropFirst(old.count)
            } else {
                result.append(first)
                rest = rest.dropFirst()
            }
        }
        return result
    }
}
