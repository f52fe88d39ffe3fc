import BlockStorage
import JSON

/// Transfers as clients see them.
enum VolumeTransferView {
    static let view = View<VolumeTransfer>("transfer", "transfers", describedAs: "VolumeTransfer", fields)
    /// With the word by which it is accepted, which only the answer to its creation shows.
    static let offer = View<VolumeTransfer>(
        "transfer", "transfers", describedAs: "VolumeTransferOffer", fields + [.text("auth_key") { $0.key?.reveal() ?? "" }])

    private static let fields: [Field<VolumeTransfer>] = [
        .text("id") { $0.id },
        Field.time("created_at") { $0.createdAt }.part(.detail),
        .optionalText("name") { $0.name },
        .text("volume_id") { $0.volumeID },
        // Whatever path the client came by.
        .links("os-volume-transfer/") { transfer, write in
            var id = transfer.id
            id.withUTF8 { write($0) }
        },
        Field.flag("no_snapshots") { $0.leavesSnapshots }.part(.detail).since(55),
        // One that was accepted is no more.
        Field.null("destination_project_id").part(.detail).since(57),
        Field.text("source_project_id") { $0.sourceProjectID }.part(.detail).since(57),
        Field.flag("accepted") { _ in false }.part(.detail).since(57),
    ]
}
