import Core
import Synchronization

/// A pool of forward passes with their scratch, lent to the threads that compute. It keeps as many as ever ran at once.
package final class PassPool: Sendable {
    /// A pass and its directions.
    package final class Workspace: @unchecked Sendable {  // used by the thread that it is lent to
        package let pass: ForwardPass
        package var directions: DirectionBatch?
        /// Scratch of the code that builds the batch.
        package var instances: [ForwardPass.Instance] = []
        package var placed: [Int: Int] = [:]

        package init(_ model: TrainableModel) { pass = ForwardPass(model: model) }
    }

    package let model: TrainableModel
    private let idle = Mutex<[Workspace]>([])

    package init(_ model: TrainableModel) { self.model = model }

    package func with<R>(_ body: (Workspace) throws -> R) rethrows -> R {
        let workspace = idle.withLock { $0.popLast() } ?? Workspace(model)
        defer { idle.withLock { $0.append(workspace) } }
        return try body(workspace)
    }
}

/// The first error of a group of threads.
package final class FirstError: Sendable {
    private let error = Mutex<(any Error)?>(nil)

    package init() {}

    package func capture(_ body: () throws -> Void) {
        do { try body() } catch { self.error.withLock { if $0 == nil { $0 = error } } }
    }

    package func rethrow() throws {
        if let error = error.withLock({ $0 }) { throw error }
    }
}

extension ForwardPass {
    /// An example seen through one set of parameters: as many segments as it has sequences.
    package struct Instance {
        package let example: Int
        package let firstSegment: Int

        package init(example: Int, firstSegment: Int) {
            self.example = example
            self.firstSegment = firstSegment
        }
    }
}
