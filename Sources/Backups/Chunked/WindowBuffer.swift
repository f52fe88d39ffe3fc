import Glibc

/// Memory for one object's part of the volume. Pages that are no longer needed are given back one by one.
final class WindowBuffer {
    let bytes: UnsafeMutableRawBufferPointer
    private let mapped: UnsafeMutableRawBufferPointer
    /// The size of the processor's large pages: a fault for each is 500 times rarer than for small ones.
    private static let page = 2 << 20

    init(_ size: Int) {
        let memory = mmap(nil, size + Self.page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let memory, memory != MAP_FAILED else { fatalError("out of memory") }
        mapped = UnsafeMutableRawBufferPointer(start: memory, count: size + Self.page)
        bytes = UnsafeMutableRawBufferPointer(start: memory.alignedUp(toMultipleOf: Self.page), count: size)
        madvise(bytes.baseAddress, size, MADV_HUGEPAGE)
    }

    deinit { munmap(mapped.baseAddress, mapped.count) }

    subscript(_ range: Range<Int>) -> UnsafeMutableRawBufferPointer { UnsafeMutableRawBufferPointer(rebasing: bytes[range]) }

    /// Gives the large pages in a range back; its content is undefined from now on.
    func drop(_ range: Range<Int>) {
        let start = (range.lowerBound + Self.page - 1) / Self.page * Self.page
        let end = range.upperBound / Self.page * Self.page
        if end > start { madvise(bytes.baseAddress! + start, end - start, MADV_DONTNEED) }
    }
}
