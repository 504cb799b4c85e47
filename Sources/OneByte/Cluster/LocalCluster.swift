import Coordinator
import Core
import Foundation
import Transport

/// A coordinator, its workers and an evaluator as processes of this machine, from their start to the run's end.
struct LocalCluster: Sendable {
    let directory: RunDirectory
    /// SHA-256 of the spec of the run that was asked for.
    let run: Digest
    let coordinator: ChildProcess
    /// Those that train, given the coordinator's address.
    let workers: @Sendable (String) -> [ChildProcess]
    /// The one that measures held-out data, if the run has any; likewise.
    let evaluator: @Sendable (String) -> ChildProcess?
    /// Workers that train, each with its own part of the data.
    let trainers: Int
    /// What is known of the run from before.
    let past: RunProgress

    /// After the coordinator's end, the workers have so long to end by themselves.
    private static let secondsForGoodbyes = 15.0
    private static let drawInterval = Duration.milliseconds(250)

    private enum News: Sendable {
        case progress(CoordinatorProgress)
        /// A line of the coordinator that is no event: a library's complaint.
        case other(String)
        case ended(ChildProcess, ChildProcess.Ending)
        /// A process that could not be run at all.
        case failed(any Error)
        case tick
    }

    /// - Returns: what the events told, once the coordinator has ended the run.
    /// - Throws: `ProcessFailure` with a process's own last words where the run can't go on; what stopping brings.
    func run() async throws -> RunProgress {
        let (news, post) = AsyncStream.makeStream(of: News.self)
        return try await withThrowingTaskGroup(of: Void.self) { group in
            // Leaving in any way stops every process: their tasks are cancelled, and the group waits for them.
            defer { group.cancelAll() }
            group.addTask {
                do {
                    let ending = try await coordinator.run { line in
                        if let progress = try? JSONDecoder().decode(CoordinatorProgress.self, from: Data(line.utf8)) {
                            post.yield(.progress(progress))
                        } else if !line.isEmpty {
                            post.yield(.other(line))
                        }
                    }
                    post.yield(.ended(coordinator, ending))
                } catch {
                    post.yield(.failed(error))
                }
            }
            group.addTask {
                while !Task.isCancelled {
                    try? await Task.sleep(for: Self.drawInterval)
                    post.yield(.tick)
                }
                post.finish()
            }
            var state = State(past, trainers: trainers, run: run)
            for await item in news {
                try Task.checkCancellation()
                switch item {
                case .progress(let progress):
                    try state.take(progress)
                    for worker in try state.due(progress.event, workers, evaluator) {
                        state.running.insert(worker.name)
                        group.addTask {
                            do { post.yield(.ended(worker, try await worker.run(eachLine: nil))) } catch { post.yield(.failed(error)) }
                        }
                    }
                case .ended(let child, let ending): try state.ended(child, ending, isCoordinator: child.name == coordinator.name)
                case .failed(let error): throw error
                case .other(let line): state.view.note("coordinator: \(line)")
                case .tick:
                    state.draw()
                    try state.noticeWhoLeft()
                }
                if let end = state.coordinatorEnd, state.running.isEmpty || end.duration(to: .now) > .seconds(Self.secondsForGoodbyes) {
                    break
                }
            }
            try Task.checkCancellation()
            state.view.end(state.progress)
            return state.progress
        }
    }

    /// What the loop knows.
    private struct State {
        var progress: RunProgress
        /// Who ended in order while the run went on, as far as is known.
        private var left: [(story: String, at: ContinuousClock.Instant)] = []
        var view = LiveView(standardError)
        /// Workers that have not ended.
        var running: Set<String> = []
        var coordinatorEnd: ContinuousClock.Instant?
        private var trainersLeft: Int
        /// They start once the evaluator has called.
        private var waiting: (evaluator: String, workers: [ChildProcess])?
        private let began = ContinuousClock.now
        private let run: Digest

        init(_ past: RunProgress, trainers: Int, run: Digest) {
            progress = past
            trainersLeft = trainers
            self.run = run
        }

        /// The processes to start now. The evaluator is first: the coordinator waits for one that has called, so that the first
        /// round can't open before the held-out data are measured.
        mutating func due(
            _ event: CoordinatorProgress.Event, _ workers: (String) -> [ChildProcess], _ evaluator: (String) -> ChildProcess?
        ) throws -> [ChildProcess] {
            switch event {
            case .listening(let listening):
                // They take part in no other run: the join string names this one.
                let join = try listening.joinString().description
                guard let first = evaluator(join) else { return workers(join) }
                waiting = (first.name, workers(join))
                return [first]
            case .greeted(let greeting) where greeting.name == waiting?.evaluator:
                defer { waiting = nil }
                return waiting?.workers ?? []
            default: return []
            }
        }

        /// - Throws: `ProcessFailure` `.configuration` where the coordinator leads another run than the one asked for; nobody has trained then.
        mutating func take(_ news: CoordinatorProgress) throws {
            progress.take(news)
            switch news.event {
            case .listening(let listening) where listening.run != run:
                throw ProcessFailure(
                    .configuration,
                    "the run directory's ledger is of the run \(listening.run.short), and \(run.short) was asked for; nothing was trained")
            case .trial(let trial):
                let loss = trial.loss.map { fixed($0, 4) } ?? "not finite"
                view.note(
                    trial.isChosen
                        ? "learning rate \(trial.learningRate) is chosen (validation loss \(loss) at its trial)"
                        : "trial at learning rate \(trial.learningRate): validation loss \(loss)")
            case .warning(let text): view.note("note: \(text)")
            case .refused(let worker):
                view.note(
                    "warning: \(printable(worker.name, onOneLine: true)) was turned away: \(worker.reason)"
                        + worker.details.map { "\n  \($0)" }.joined())
            case .digests(let digests) where digests.digest == nil:
                view.note("warning: at round \(digests.round) the machines' digests differ: \(digests.groups)")
            case .left(let left) where left.reason != "left":
                view.note("warning: \(printable(left.name, onOneLine: true)) left at round \(left.round): \(left.reason)")
            default: break
            }
        }

        mutating func draw() {
            guard coordinatorEnd == nil else { return }
            view.show(progress, seconds: began.duration(to: .now) / .seconds(1))
        }

        mutating func noticeWhoLeft() throws {
            guard coordinatorEnd == nil, progress.finish == nil else { return }
            while let first = left.first, first.at.duration(to: .now) > .seconds(secondsForGoodbyes) {
                left.removeFirst()
                guard trainersLeft > 0 else { throw ProcessFailure(.failure, "\(first.story); no worker is left; resume the run with --resume") }
                view.note("warning: \(first.story); the run goes on without it")
            }
        }

        mutating func ended(_ child: ChildProcess, _ ending: ChildProcess.Ending, isCoordinator: Bool) throws {
            if isCoordinator {
                guard ending.isSuccess else {
                    throw ProcessFailure(ending.status, "the coordinator \(ending): \(child.lastWords()) (log: \(child.log))")
                }
                coordinatorEnd = .now
                return
            }
            running.remove(child.name)
            guard coordinatorEnd == nil, progress.finish == nil else { return }
            trainersLeft -= child.name.hasPrefix("worker") ? 1 : 0
            let story = "\(child.name) \(ending): \(child.lastWords()) (log: \(child.log))"
            guard !ending.isSuccess else {
                // At a run's end workers leave before the coordinator says so; in its middle somebody has stopped them.
                left.append((story, .now))
                return
            }
            // A run that has not begun waits for all its workers; one that has begun goes on with those that are left.
            guard !progress.isWaiting, trainersLeft > 0 else { throw ProcessFailure(ending.status, story) }
            view.note("warning: \(story); the run goes on without it")
        }
    }
}
