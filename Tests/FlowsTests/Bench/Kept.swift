import Glibc

/// Files that are kept beside the tests.
enum Kept {
    struct Unreadable: Error { let path: String }

    static func text(_ name: String) throws -> String {
        let directory = String(#filePath.prefix(upTo: #filePath.firstRange(of: "/Bench/")?.lowerBound ?? #filePath.endIndex))
        let path = directory + "/Kept/" + name
        guard let file = fopen(path, "r") else { throw Unreadable(path: path) }
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while case let count = fread(&buffer, 1, buffer.count, file), count > 0 { bytes += buffer[..<count] }
        return String(decoding: bytes, as: UTF8.self)
    }
}
