import CCrypto

/// A hash of libcrypto's over bytes that arrive in pieces. One thread at a time.
struct HashContext: ~Copyable {
    private let context: OpaquePointer
    private let algorithm: OpaquePointer?

    /// Begins an empty hash.
    ///
    /// - Parameter algorithm: fetched once by its user: an implicit fetch takes a lock for every hash.
    init(_ algorithm: OpaquePointer?) {
        guard let made = EVP_MD_CTX_new() else { fatalError("libcrypto has no memory for a hash") }
        context = made
        self.algorithm = algorithm
        restart()
    }

    /// A hash that goes on from where another one is.
    init(copying other: borrowing HashContext) {
        guard let made = EVP_MD_CTX_new(), EVP_MD_CTX_copy_ex(made, other.context) == 1 else {
            fatalError("libcrypto has no memory for a hash")
        }
        context = made
        algorithm = other.algorithm
    }

    deinit { EVP_MD_CTX_free(context) }

    private func restart() {
        guard EVP_DigestInit_ex2(context, algorithm, nil) == 1 else { fatalError("libcrypto has not the hash") }
    }

    func update(_ bytes: UnsafeRawBufferPointer) { EVP_DigestUpdate(context, bytes.baseAddress, bytes.count) }

    /// What `read` makes of the hash of what was added, which has `size` bytes; the next hash begins.
    func finish<Value>(_ size: Int, _ read: (UnsafeRawBufferPointer) -> Value) -> Value {
        withUnsafeTemporaryAllocation(byteCount: size, alignment: 8) { result in
            var count: UInt32 = 0
            EVP_DigestFinal_ex(context, result.baseAddress!.assumingMemoryBound(to: UInt8.self), &count)
            restart()
            return read(UnsafeRawBufferPointer(result))
        }
    }
}
