import Glibc

/// Writes a line to the standard error output: for programs that end, not for logs.
public func writeError(_ line: String) {
    var text = line + "\n"
    text.withUTF8 { bytes in
        var done = 0
        while done < bytes.count {
            let count = write(2, bytes.baseAddress! + done, bytes.count - done)
            if count > 0 { done += count } else if count == 0 || errno != EINTR { return }
        }
    }
}
