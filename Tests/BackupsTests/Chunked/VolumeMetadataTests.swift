import JSON
import Testing

@testable import Backups

@Suite("What is kept of a volume beside a chunked backup")
struct VolumeMetadataTests {
    @Test("a volume's metadata is written in Cinder's second form and read from both")
    func volumeMetadata() throws {
        let metadata = ChunkedVolumeMetadata(
            base: ["display_name": "nä", "encryption_key_id": nil], metadata: ["k": "v"], imageMetadata: [:])
        #expect(
            metadata.text
                == #"{"version": 2, "volume-base-metadata": {"display_name": "n\u00e4", "encryption_key_id": null}, "volume-metadata": {"k": "v"}}"#
        )
        let read = try ChunkedVolumeMetadata(parsing: metadata.text)
        #expect(read.base == metadata.base && read.metadata == ["k": "v"] && read.imageMetadata == nil)
        let first = try ChunkedVolumeMetadata(parsing: #"{"version": 1, "volume-base-metadata": {"encryption_key_id": "k"}}"#)
        #expect(first.base.isEmpty)
    }

    @Test(
        "a volume's metadata that breaks a rule is refused",
        arguments: [
            "", "[]", "{}", #"{"version": 3}"#, #"{"version": 2, "volume-metadata": []}"#, #"{"version": 2, "volume-metadata": {"a": 1}}"#,
        ])
    func malformedVolumeMetadata(text: String) {
        #expect(throws: ChunkedFailure.self) { try ChunkedVolumeMetadata(parsing: text) }
    }

    @Test("Python's form of JSON is followed byte for byte")
    func python() throws {
        let value: JSON = ["b": [], "a": ["x", 1, nil, true], "\u{1F600}": "\u{7f}\u{8}\u{c}\n/", "c": [:]]
        #expect(PythonJSON.line(value) == #"{"b": [], "a": ["x", 1, null, true], "\ud83d\ude00": "\u007f\b\f\n/", "c": {}}"#)
        #expect(
            PythonJSON.lines(value)
                == "{\n  \"a\": [\n    \"x\",\n    1,\n    null,\n    true\n  ],\n  \"b\": [],\n  \"c\": {},\n  "
                + #""\ud83d\ude00": "\u007f\b\f\n/""# + "\n}")
    }
}
