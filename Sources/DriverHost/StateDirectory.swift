import CDriver
import Glibc
import Primitives

/// The directory of a backend's own, for what its driver keeps on this machine.
public enum StateDirectory {
    /// Where it is, below the directory of the service's state. No name of a backend leads elsewhere, and no two lead to one place.
    public static func path(of backend: String, in state: String) -> String { "\(state)/volumes/\(fileName(of: backend))" }

    /// The same of a store of backups.
    public static func path(ofStore store: String, in state: String) -> String { "\(state)/backups/\(fileName(of: store))" }

    /// The name as that of one file: most names are their own.
    static func fileName(of backend: String) -> String {
        var name = ""
        for (index, character) in backend.unicodeScalars.enumerated() {
            switch character {
            case "/": name += "%2F"
            case "%": name += "%25"
            case "." where index == 0: name += "%2E"
            case "\0": name += "%00"
            default: name.unicodeScalars.append(character)
            }
        }
        return name
    }

    /// Makes the one that the options of `open` name, if they do; done before every `open`.
    package static func make(for options: DriverValue) throws(DriverFailure) {
        guard let path = options["state_dir"]?.string, let slash = path.lastIndex(of: "/"), path.hasPrefix("/") else { return }
        let parent = String(path[..<slash])
        // Earlier releases took the backend's name as it is.
        if let backend = options["backend"]?.string, backend != path[path.index(after: slash)...], !backend.isEmpty,
            !backend.split(separator: "/").contains(where: { $0 == "." || $0 == ".." }), access(path, F_OK) != 0
        {
            _ = rename("\(parent)/\(backend)", path)
        }
        for directory in [parent, path] where mkdir(directory, 0o700) != 0 {
            let code = errno
            guard code == EEXIST else {
                throw DriverFailure(.badConfiguration, SystemError(code, "the backend's directory \(directory) cannot be made").description)
            }
        }
    }
}
