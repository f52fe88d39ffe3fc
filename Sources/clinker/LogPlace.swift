import Glibc
import Primitives
import Settings

/// The file of the log, as `log_file` and `log_dir` say.
struct LogPlace {
    /// nil where the log goes elsewhere.
    let file: String?

    init(_ settings: Settings) {
        var file = settings[Options.service.logFile]
        let directory = settings[Options.service.logDirectory]
        if !directory.isEmpty, !file.hasPrefix("/") { file = directory + "/" + (file.isEmpty ? "clinker.log" : file) }
        self.file = file.isEmpty ? nil : file
    }

    /// Why the file could not be written, found without making it.
    ///
    /// - Parameter isOwned: whether the caller is the user who runs the service.
    func problems(isOwned: Bool) -> [String] {
        guard let file else { return [] }
        let name = "cannot open the log file \(file)"
        var info = stat()
        if stat(file, &info) == 0 {
            if info.st_mode & S_IFMT == S_IFDIR { return [SystemError(EISDIR, name).description] }
            return isOwned && access(file, W_OK) != 0 ? [SystemError.last(name).description] : []
        }
        return NeededDirectory.problem(file.directory, making: .nothing, isOwned: isOwned).map { ["\(name): \($0)"] } ?? []
    }
}

extension String {
    /// The directory that a path lies in.
    var directory: String {
        let parent = split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
        return parent.isEmpty ? (hasPrefix("/") ? "/" : ".") : parent
    }
}
