import Primitives
import TestSupport

@testable import Backups

/// A repository in a directory, of chunks of 256 KiB, whose packs a test damages.
struct DirectoryRepository {
    let directory = temporaryDirectory("repository")

    func create() throws -> Repository {
        var options = Repository.Options()
        options.lockPatience = 0.5
        options.packSize = 1 << 20
        options.sampling = 0
        return try .create(in: DirectoryStore(directory), password: Secret("secret"), chunkSize: 256 << 10, options: options)
    }

    func damage(_ pack: Digest, _ change: (inout [UInt8]) -> Void) throws {
        let path = directory + "/" + ObjectKind.pack(pack)
        var bytes = try readFile(path)
        change(&bytes)
        writeFile(path, bytes)
    }

    /// A bit of a blob.
    func flip(_ location: BlobIndex.Location) throws { try damage(location.pack) { $0[Int(location.blob.offset) + 20] ^= 1 } }

    /// Where a chunk of an image lies that is not zeroes and that fits.
    func chunk(of snapshot: Digest, in repository: Repository, where fits: (Int) -> Bool = { _ in true }) throws -> BlobIndex.Location {
        let index = try repository.loadIndex()
        let zero = ZeroChunks(chunkSize: 256 << 10).id(256 << 10)
        let chunks = try ImageMap(repository, index, snapshot: snapshot).chunks(of: 0)
        guard let chunk = chunks.enumerated().first(where: { $0.element != zero && fits($0.offset) })?.element,
            let location = try index.find(chunk, .data)
        else { throw RepositoryError(.invalid, "the image is too small for this test") }
        return location
    }
}
