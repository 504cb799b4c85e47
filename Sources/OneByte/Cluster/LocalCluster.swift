import Coordinator
import Core
import Foundation
import Transport

/// A coordinator, its workers and an evaluator as processes on this machine, from their start to the end of the run.
struct LocalCluster: Sendable {
    let directory: RunDirectory
    /// SHA-256 of the requested run's spec.
    let run: Digest
    let coordinator: ChildProcess
    /// Returns the training workers, given the join string.
    let workers: @Sendable (String) -> [ChildProcess]
    /// Returns the worker that measures held-out data, given the join string; nil if the run has no such data.
    let evaluator: @Sendable (String) -> ChildProcess?
    /// Number of training workers, each with its own part of the data.
    let trainers: Int
    /// The run's progress from earlier processes.
    let past: RunProgress

    /// Time that workers have to end by themselves after the coordinator has ended.
    private static let shutdownSeconds = 15.0
    private static let drawInterval = Duration.milliseconds(250)

    private enum News: Sendable {
        case progress(CoordinatorProgress)
        /// A line of the coordinator that is not an event, such as a library's message.
        case other(String)
        case ended(ChildProcess, ChildProcess.Ending)
        /// A process could not be started.
        case failed(any Error)
        case tick
    }

    /// Starts the processes, shows their progress, and waits for the end of the run.
    ///
    /// - Returns: the progress from the coordinator's events, once it has ended the run.
    /// - Throws: `ProcessFailure` with a process's own last words if the run can't continue; `CancellationError` after a stop.
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
                    try state.reportDepartures()
                }
                if let end = state.coordinatorEnd, state.running.isEmpty || end.duration(to: .now) > .seconds(Self.shutdownSeconds) {
                    break
                }
            }
            try Task.checkCancellation()
            state.view.end(state.progress)
            return state.progress
        }
    }

    /// State of the event loop.
    private struct State {
        var progress: RunProgress
        /// Processes that ended in order while the run seemed to continue.
        private var left: [(story: String, at: ContinuousClock.Instant)] = []
        var view = LiveView(standardError)
        /// Names of the workers that have not ended.
        var running: Set<String> = []
        var coordinatorEnd: ContinuousClock.Instant?
        private var trainersLeft: Int
        /// Workers that start once the evaluator has connected.
        private var waiting: (evaluator: String, workers: [ChildProcess])?
        private let began = ContinuousClock.now
        private let run: Digest

        init(_ past: RunProgress, trainers: Int, run: Digest) {
            progress = past
            trainersLeft = trainers
            self.run = run
        }

        /// Returns the processes to start now. The evaluator comes first: the coordinator waits for an evaluator that has connected, so the
        /// first round can't open before the held-out data are measured.
        mutating func due(
            _ event: CoordinatorProgress.Event, _ workers: (String) -> [ChildProcess], _ evaluator: (String) -> ChildProcess?
        ) throws -> [ChildProcess] {
            switch event {
            case .listening(let listening):
                // The join string names this run, so they take part in no other.
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

        /// Takes an event into the progress and shows it.
        ///
        /// - Throws: `ProcessFailure` `.configuration` if the coordinator leads another run than the requested one; nobody has trained
        ///   then.
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

        mutating func reportDepartures() throws {
            guard coordinatorEnd == nil, progress.finish == nil else { return }
            while let first = left.first, first.at.duration(to: .now) > .seconds(shutdownSeconds) {
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
                // At the end of a run, workers may leave before the coordinator reports it. In the middle, somebody has stopped them.
                left.append((story, .now))
                return
            }
            // A run that has not begun waits for all its workers; one that has begun continues with the rest.
            guard !progress.isWaiting, trainersLeft > 0 else { throw ProcessFailure(ending.status, story) }
            view.note("warning: \(story); the run goes on without it")
        }
    }
}
