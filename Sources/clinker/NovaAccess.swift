import DriverHost
import Flows
import OpenStack

/// The Compute service for flows, with Clinker's own account.
struct NovaAccess: ComputeAccess {
    private let nova: Nova

    init(_ nova: Nova) { self.nova = nova }

    func tellExtended(volume: String, instances: [String]) async throws {
        do throws(Unavailable) { try await nova.tell(.extended, volume: volume, instances: instances) } catch { throw Self.failure(error) }
    }

    func tellReimaged(volume: String, instances: [String]) async throws {
        do throws(Unavailable) { try await nova.tell(.reimaged, volume: volume, instances: instances) } catch { throw Self.failure(error) }
    }

    func swap(_ volume: String, for copy: String, ofInstance instance: String) async -> SwapAnswer {
        do throws(Unavailable) {
            return switch try await nova.swap(volume, for: copy, ofInstance: instance) {
            case .accepted: .accepted
            case .refused(let why): .refused(why)
            }
        } catch { return .unknown(error.description) }
    }

    private static func failure(_ error: Unavailable) -> DriverFailure { DriverFailure(.error, error.description) }
}
