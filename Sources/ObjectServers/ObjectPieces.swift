/// The bytes of a large object, cut for requests of their own.
public enum ObjectPieces {
    /// The slices cut into runs of so many bytes, the last one shorter. They stay where they are.
    public static func cut(_ slices: [UnsafeRawBufferPointer], _ size: Int) -> [[UnsafeRawBufferPointer]] {
        var (pieces, piece, count): ([[UnsafeRawBufferPointer]], [UnsafeRawBufferPointer], Int) = ([], [], 0)
        for slice in slices {
            var rest = slice[...]
            while !rest.isEmpty {
                let taken = rest.prefix(size - count)
                piece.append(UnsafeRawBufferPointer(rebasing: taken))
                count += taken.count
                rest = rest.dropFirst(taken.count)
                if count == size {
                    pieces.append(piece)
                    (piece, count) = ([], 0)
                }
            }
        }
        return count > 0 ? pieces + [piece] : pieces
    }
}
