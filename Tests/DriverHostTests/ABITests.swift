import CDriver
import Testing

/// The driver ABI, version 1: what a plugin that was built long ago relies on. A line here changes only when one is added
/// behind the last.
@Suite("Driver ABI")
struct ABITests {
    @Test("the table of a driver: every member where it always was")
    func table() {
        typealias Table = clinker_driver
        let head: [(PartialKeyPath<Table>, Int)] = [
            (\.abi, 0), (\.size, 4), (\.name, 8), (\.version, 16), (\.vendor, 24), (\.kind, 32), (\.threads, 36),
        ]
        for (member, offset) in head { #expect(MemoryLayout<Table>.offset(of: member) == offset, "\(member)") }
        let calls: [PartialKeyPath<Table>] = [
            \.open, \.close, \.capabilities, \.stats, \.create_volume, \.delete_volume, \.extend_volume, \.clone_volume, \.create_snapshot,
            \.delete_snapshot, \.create_volume_from_snapshot, \.revert_to_snapshot, \.export_volume, \.ensure_export, \.unexport_volume,
            \.connect_volume, \.disconnect_volume, \.list_volumes, \.manage_volume, \.unmanage_volume, \.fence, \.open_handle,
            \.close_handle,
            \.get_size, \.block_size, \.read, \.write, \.zero, \.discard, \.flush, \.extents, \.changed, \.submit, \.manage_snapshot,
            \.unmanage_snapshot, \.rename_volume,
        ]
        for (index, call) in calls.enumerated() { #expect(MemoryLayout<Table>.offset(of: call) == 40 + 8 * index, "\(call)") }
        // Behind the calls.
        let options = 40 + 8 * calls.count
        #expect(MemoryLayout<Table>.offset(of: \.options) == options && MemoryLayout<Table>.offset(of: \.option_count) == options + 8)
        #expect(MemoryLayout<Table>.offset(of: \.option_size) == options + 12)
        // Behind the options.
        #expect(MemoryLayout<Table>.offset(of: \.clone_image) == options + 16 && MemoryLayout<Table>.size == options + 24)
    }

    @Test("the table of a store: every member where it always was")
    func store() {
        typealias Table = clinker_store
        let head: [(PartialKeyPath<Table>, Int)] = [
            (\.abi, 0), (\.size, 4), (\.name, 8), (\.version, 16), (\.vendor, 24), (\.kind, 32), (\.threads, 36),
        ]
        for (member, offset) in head { #expect(MemoryLayout<Table>.offset(of: member) == offset, "\(member)") }
        let calls: [PartialKeyPath<Table>] = [
            \.open, \.close, \.capabilities, \.stats, \.put, \.get, \.stat_object, \.list, \.remove, \.put_open, \.put_write, \.put_close,
            \.protect,
        ]
        for (index, call) in calls.enumerated() { #expect(MemoryLayout<Table>.offset(of: call) == 40 + 8 * index, "\(call)") }
        let options = 40 + 8 * calls.count
        #expect(MemoryLayout<Table>.offset(of: \.options) == options && MemoryLayout<Table>.offset(of: \.option_count) == options + 8)
        #expect(MemoryLayout<Table>.offset(of: \.option_size) == options + 12 && MemoryLayout<Table>.size == options + 16)
        typealias Object = clinker_object
        #expect(MemoryLayout<Object>.offset(of: \.size) == 0 && MemoryLayout<Object>.offset(of: \.name) == 8)
        #expect(MemoryLayout<Object>.offset(of: \.length) == 16 && MemoryLayout<Object>.offset(of: \.modified) == 24)
        #expect(MemoryLayout<Object>.size == 32 && MemoryLayout<clinker_slice>.size == 16)
        #expect(MemoryLayout<clinker_slice>.offset(of: \.bytes) == 0 && MemoryLayout<clinker_slice>.offset(of: \.length) == 8)
        #expect(CLINKER_STORE_SYMBOL == "clinker_store_v1")
    }

    @Test("an option that a driver declares: every member where it always was")
    func option() {
        typealias Option = clinker_option
        let members: [(PartialKeyPath<Option>, Int)] = [
            (\.name, 0), (\.type, 8), (\.reserved, 12), (\.minimum, 16), (\.maximum, 24), (\.choices, 32), (\.standard, 40), (\.help, 48),
        ]
        for (member, offset) in members { #expect(MemoryLayout<Option>.offset(of: member) == offset, "\(member)") }
        #expect(MemoryLayout<Option>.size == 56)
        #expect(CLINKER_OPTION_TEXT.rawValue == 0 && CLINKER_OPTION_INTEGER.rawValue == 1 && CLINKER_OPTION_REAL.rawValue == 2)
        #expect(CLINKER_OPTION_BOOLEAN.rawValue == 3 && CLINKER_OPTION_LIST.rawValue == 4 && CLINKER_OPTION_SECRET.rawValue == 5)
    }

    @Test("the host's functions, and the request of a block handle")
    func host() {
        typealias Host = clinker_host
        let functions: [PartialKeyPath<Host>] = [
            \.string, \.integer, \.real, \.boolean, \.length, \.set_string, \.set_secret, \.set_integer, \.set_real, \.set_boolean,
            \.set_null,
            \.begin_object, \.begin_list, \.end, \.log, \.progress, \.cancelled, \.fail,
        ]
        #expect(MemoryLayout<Host>.offset(of: \.size) == 0)
        for (index, function) in functions.enumerated() { #expect(MemoryLayout<Host>.offset(of: function) == 8 + 8 * index, "\(function)") }
        #expect(MemoryLayout<clinker_call>.offset(of: \.host) == 0 && MemoryLayout<clinker_call>.offset(of: \.reserved) == 8)
        typealias Request = clinker_request
        let members: [(PartialKeyPath<Request>, Int)] = [
            (\.size, 0), (\.operation, 8), (\.reserved, 12), (\.buffer, 16), (\.offset, 24), (\.length, 32), (\.complete, 40),
            (\.opaque, 48),
        ]
        for (member, offset) in members { #expect(MemoryLayout<Request>.offset(of: member) == offset, "\(member)") }
        #expect(MemoryLayout<Request>.size == 56)
    }

    @Test("codes, kinds and flags keep their numbers")
    func numbers() {
        let codes = [
            CLINKER_OK, CLINKER_ERROR, CLINKER_RETRY, CLINKER_BUSY, CLINKER_NOT_FOUND, CLINKER_EXISTS, CLINKER_NO_SPACE,
            CLINKER_UNSUPPORTED,
            CLINKER_BAD_CONFIGURATION, CLINKER_INVALID, CLINKER_CANCELLED,
        ]
        for (number, code) in codes.enumerated() { #expect(Int(code.rawValue) == number) }
        #expect(CLINKER_VOLUME_DRIVER.rawValue == 1 && CLINKER_BACKUP_DRIVER.rawValue == 2)
        #expect(CLINKER_THREADS_SERIALIZED.rawValue == 0 && CLINKER_THREADS_PARALLEL.rawValue == 1)
        #expect(CLINKER_EXTENT_DATA == 0 && CLINKER_EXTENT_ZERO == 1 && CLINKER_EXTENT_HOLE == 2)
        #expect(CLINKER_HANDLE_READ == 0 && CLINKER_HANDLE_WRITE == 1 && CLINKER_DRIVER_ABI == 1)
    }
}
