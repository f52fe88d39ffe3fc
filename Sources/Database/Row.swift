/// One row: the current one of a query that runs, or one of `Rows`. Valid only inside the closure that received it. Columns count
/// from 0.
public protocol Row: AnyObject {
    /// UTF-8 of a text column, nil for NULL; valid until the next row.
    func bytes(_ column: Int) -> UnsafeBufferPointer<UInt8>?
    func integer(_ column: Int) -> Int64
    func real(_ column: Int) -> Double
    func isNull(_ column: Int) -> Bool
}

extension Row {
    public func int(_ column: Int) -> Int { Int(integer(column)) }
    public func bool(_ column: Int) -> Bool { integer(column) != 0 }
    public func text(_ column: Int) -> String { bytes(column).map { String(decoding: $0, as: UTF8.self) } ?? "" }
    public func optionalText(_ column: Int) -> String? { bytes(column).map { String(decoding: $0, as: UTF8.self) } }
    public func optionalInt(_ column: Int) -> Int? { isNull(column) ? nil : int(column) }
}
