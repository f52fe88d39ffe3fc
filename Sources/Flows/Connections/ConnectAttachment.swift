import BlockStorage
import Database
import DriverHost
import JSON
import Primitives

/// PUT /attachments/{id}, POST /attachments with a connector
enum ConnectAttachment: FlowDefinition {
    typealias Arguments = ConnectAttachmentArguments

    static let whenInterrupted = Interruption.revert
    static let isAwaited = true
    static let steps =
        ConnectSteps<Self>.all(
            for: { run, _ in
                let id = run.arguments.attachmentID
                guard let attachment = try await run.read({ try Attachments.find(id, of: run.volumeID, in: $0) }),
                    let connector = attachment.connector
                else { throw StorageError.attachmentNotFound(id) }
                return ConnectionRequest(connector: try JSON(parsing: connector.reveal()), mode: attachment.mode ?? "rw")
            },
            before: { run, volume, backend in
                // The attachment has the new connector already: what the driver shares between both hosts stays.
                guard let previous = run.arguments.previous else { return }
                try await ConnectSteps.disconnect(volume, on: backend, connector: previous, except: nil, run)
            },
            attachmentID: { $0.arguments.attachmentID }) + [
            .record("keep") { run, tx in
                // An attachment shows its connection flat.
                var info = run.answer.object ?? [:]
                var flat = info["data"]?.object ?? [:]
                info["data"] = nil
                for member in info.members { flat[member.name] = member.value }
                flat["attachment_id"] = .string(run.arguments.attachmentID)
                try Attachments.connected(
                    run.arguments.attachmentID, of: run.volume(in: tx), connectionInfo: Secret(JSON.object(flat).text), in: tx)
            }
        ]

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        try run.addUserMessage(.updateAttachment, .attachFailed, in: tx)
        guard let volume = try Volumes.lock(run.volumeID, in: tx) else { return .finished }
        let id = run.arguments.attachmentID
        if let previous = run.arguments.previous { try Attachments.keep(connector: previous, for: id, of: volume, in: tx) }
        if run.arguments.isNew, failure.isUndone {
            try Attachments.remove(id, of: volume, in: tx)
        } else {
            try Attachments.setStatus(.errorAttaching, for: id, of: volume, in: tx)
        }
        if volume.status == .attaching { try Volumes.refreshAttachState(of: volume, in: tx) }
        return .finished
    }
}

/// DELETE /attachments/{id}. Who waited while a migration gave the attachment to another volume finds nothing to do: what it left there is
/// none of its own, and who asked asks again.
enum DeleteAttachment: FlowDefinition {
    typealias Arguments = DeleteAttachmentArguments

    static let isAwaited = true
    static let steps: [Step<Self>] = [
        .onVolume(
            "disconnect", skipsUnplaced: true,
            perform: { run, volume, backend in
                let id = run.arguments.attachmentID
                guard let attachment = try await run.read({ try Attachments.find(id, of: run.volumeID, in: $0) }) else { return }
                let connector = try attachment.connector.map { try JSON(parsing: $0.reveal()) }
                try await ConnectSteps.disconnect(volume, on: backend, connector: connector, except: id, run)
            },
            record: { run, _, tx in
                guard let volume = try Volumes.lock(run.volumeID, in: tx), volume.status != .deleting else { return }
                try Attachments.remove(run.arguments.attachmentID, of: volume, in: tx)
                try Volumes.refreshAttachState(of: volume, in: tx)
            })
    ]

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        if let volume = try Volumes.lock(run.volumeID, in: tx) {
            try Attachments.setStatus(.errorDetaching, for: run.arguments.attachmentID, of: volume, in: tx)
        }
        return .finished
    }
}
