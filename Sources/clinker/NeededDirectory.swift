import Glibc
import Primitives

/// A directory that the service must be able to write: looked at without making it.
enum NeededDirectory {
    /// How much of it the service makes where it is missing.
    enum Making { case nothing, itself, parents }

    /// Why the service could not write there; nil if it can, or could make it.
    ///
    /// - Parameter isOwned: whether the caller is the user who will run the service. Another one's permissions say nothing of that.
    static func problem(_ path: String, making: Making, isOwned: Bool) -> String? {
        var place = path
        while place.utf8.count > 1, place.hasSuffix("/") { place.removeLast() }
        var isMissing = false
        while true {
            var info = stat()
            if stat(place, &info) == 0 {
                guard info.st_mode & S_IFMT == S_IFDIR else { return "\(place) is no directory" }
                guard access(place, W_OK | X_OK) != 0, isOwned || errno != EACCES else { return nil }
                return SystemError.last(isMissing ? "\(path) cannot be made in \(place)" : "\(path) cannot be written").description
            }
            let code = errno
            if code == EACCES, !isOwned { return nil }
            guard code == ENOENT, making == .parents || (making == .itself && !isMissing), place != "/", place != "." else {
                return SystemError(code, making == .nothing ? "\(path) cannot be used" : "\(path) cannot be made").description
            }
            isMissing = true
            place = place.directory
        }
    }
}
