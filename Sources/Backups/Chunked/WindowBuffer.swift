import Glibc

/// Memory for one object's part of the volume. Pages that are no longer needed are given back one by one.
final class WindowBuffer {
    let bytes: UnsafeMutableRawBufferPointer

    init(_ size: Int) {
        let memory = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let memory, memory != MAP_FAILED else { fatalError("out of memory") }
        bytes = UnsafeMutableRawBufferPointer(start: memory, count: size)
    }

    deinit { munmap(bytes.baseAddress, bytes.count) }

    subscript(_ range: Range<Int>) -> UnsafeMutableRawBufferPointer { UnsafeMutableRawBufferPointer(rebasing: bytes[range]) }

    /// Gives memory back; its content is undefined from now on.
    func drop(_ range: Range<Int>) {
        let page = 4096
        let start = (range.lowerBound + page - 1) / page * page
        let end = range.upperBound / page * page
        if end > start { madvise(bytes.baseAddress! + start, end - start, MADV_DONTNEED) }
    }
}
