import Core
import Synchronization

/// Forward passes with their scratch, lent to the threads that compute: as many as ever ran at once, kept.
final class PassPool: Sendable {
    /// A pass and its directions.
    final class Workspace: @unchecked Sendable {  // used by the thread that it is lent to
        let pass: ForwardPass
        var directions: DirectionBatch?
        /// Scratch of whoever builds the batch.
        var instances: [ForwardPass.Instance] = []
        var placed: [Int: Int] = [:]

        init(_ model: TrainableModel) { pass = ForwardPass(model: model) }
    }

    let model: TrainableModel
    private let idle = Mutex<[Workspace]>([])

    init(_ model: TrainableModel) { self.model = model }

    func with<R>(_ body: (Workspace) throws -> R) rethrows -> R {
        let workspace = idle.withLock { $0.popLast() } ?? Workspace(model)
        defer { idle.withLock { $0.append(workspace) } }
        return try body(workspace)
    }
}

/// The first error of a group of threads.
final class FirstError: Sendable {
    private let error = Mutex<(any Error)?>(nil)

    func capture(_ body: () throws -> Void) {
        do { try body() } catch { self.error.withLock { if $0 == nil { $0 = error } } }
    }

    func rethrow() throws {
        if let error = error.withLock({ $0 }) { throw error }
    }
}
