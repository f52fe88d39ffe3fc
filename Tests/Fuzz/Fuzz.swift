import Glibc
import Primitives

/// What libFuzzer calls (https://llvm.org/docs/LibFuzzer.html). CLINKER_FUZZ says which door is tried.
private let target: @Sendable (UnsafeRawBufferPointer) -> Void = {
    switch getenv("CLINKER_FUZZ").map({ String(cString: $0) }) ?? "" {
    case "request": return RequestFuzz().run
    case "json": return JSONFuzz.run
    case "configuration": return ConfigurationFuzz.run
    case "policy": return PolicyFuzz.run
    case "wire": return WireFuzz.run
    case "expression": return ExpressionFuzz.run
    case "image": return ImageFuzz.run
    case "format": return FormatFuzz.run
    case "pack-header": return RepositoryFuzz.header
    case "index": return RepositoryFuzz.index
    case "tree": return RepositoryFuzz.tree
    case "record": return RepositoryFuzz.record
    case "metadata": return ChunkedFuzz.metadata
    case "sha256file": return ChunkedFuzz.hashes
    default:
        writeError(
            "CLINKER_FUZZ must be request, json, configuration, policy, wire, expression, image, format, pack-header, index, tree, record, metadata or sha256file"
        )
        exit(64)
    }
}()

@c(LLVMFuzzerTestOneInput)
public func fuzzerTestOneInput(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    target(UnsafeRawBufferPointer(start: bytes, count: count))
    return 0
}

/// Ends the run: libFuzzer keeps the input.
func violated(_ rule: String) -> Never {
    writeError("violated: \(rule)")
    abort()
}
