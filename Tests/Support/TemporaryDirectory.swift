import Glibc
import Primitives
import Processes

/// A new directory for files of a test. It goes with the process, unless `CLINKER_KEEP` is set or another program removes it.
public func temporaryDirectory(_ name: String, under parent: String = "/tmp", elseRemovesIt: Bool = false) -> String {
    var template = Array("\(parent)/clinker-\(name)-XXXXXX".utf8CString)
    guard let made = mkdtemp(&template) else { preconditionFailure("no directory for a test: \(String(cString: strerror(errno)))") }
    let path = String(cString: made)
    if !elseRemovesIt { temporaryDirectories.withLock { $0.append(path) } }
    return path
}

private let temporaryDirectories: Guarded<[String]> = {
    if getenv("CLINKER_KEEP") == nil { atexit { removeTemporaryDirectories() } }
    return Guarded([])
}()

private func removeTemporaryDirectories() {
    let all = temporaryDirectories.withLock { $0 }
    // Servers that end with the tests may write a last word meanwhile: what rm says of that helps nobody.
    let nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC)
    if let remover = try? spawn("/bin/rm", ["-rf"] + all, descriptors: [(source: nowhere, target: 2)]) { reap(remover) }
}
