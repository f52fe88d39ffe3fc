import Testing

@testable import BlockStorage
@testable import Flows

@Suite("Flows that are known")
struct FlowRegistryTests {
    @Test("flows, their steps and their stored members are those of the kept list: Kept/README.md says what a change means")
    func frozen() throws {
        func line(_ items: [String]) -> String { items.isEmpty ? "-" : items.joined(separator: ", ") }
        let known = FlowRegistry.all.flows.sorted { $0.id.description < $1.id.description }.map { flow in
            let stored = flow.storedMembers
            return """
                \(flow.id)
                  steps: \(line(flow.stepNames))
                  arguments: \(line(stored.arguments))
                  state: \(line(stored.state))

                """
        }.joined()
        #expect(known == (try Kept.text("flows.txt")))
    }

    @Test("no flow has two steps of one name: the log tells them apart by it")
    func stepNames() {
        for flow in FlowRegistry.all.flows { #expect(Set(flow.stepNames).count == flow.stepNames.count, "\(flow.id)") }
    }

    @Test("of every flow it is said what others are notified of, or that it is nothing: Cinder sends nothing of these, or has none of them")
    func notifications() {
        let silent: Set = [
            "backup.forget", "backup.remove_snapshot", "backup.verify", "volume.cache_image", "volume.connect", "volume.delete_key",
            "volume.discard_key", "volume.disconnect", "volume.finish_migration", "volume.open_key", "volume.reimage",
            "volume.reimage_encrypted", "volume.remove_unused_object",
            "volume.restore_export", "volume.tell_extended", "volume.upload", "volume.upload_attached",
        ]
        let names = Set(FlowRegistry.all.flows.map(\.id.name))
        #expect(names == silent.union(NotificationRule.ofFlows.keys))
        #expect(silent.isDisjoint(with: NotificationRule.ofFlows.keys))
    }

    @Test("two flows of one name and version: the release does not start")
    func duplicate() async {
        await #expect(processExitsWith: .failure) {
            _ = FlowRegistry([Registered<CreateVolume>(), Registered<CreateVolume>()])
        }
    }
}
