import ArgumentParser
import Coordinator
import Core
import LanguageModel
import Transport

/// This file is the one place where errors become exit statuses.
extension ExitStatus {
    package init(_ error: any Error) {
        self =
            switch error {
            case let error as ProcessFailure: error.status
            case let error as TransportError: error.status
            case let error as SettingsError:
                switch error.code {
                case .missing: .missingInput
                case .file: .badData
                case .usage: .usage
                }
            case is RunSpecError: .usage
            case let error as DataError:
                switch error.code {
                case .missing: .missingInput
                case .malformed: .badData
                case .task: .usage
                }
            case let error as ModelError:
                switch error.code {
                case .notFound: .missingInput
                case .inputOutput: .inputOutput
                case .malformed, .unsupported, .missingTensor, .wrongShape: .badData
                case .badRequest: .usage
                case .network: .unavailable
                case .cancelled: .interrupted
                }
            case let error as TrainingError:
                switch error.code {
                case .badTensors: .usage
                case .badExample, .noExamples: .badData
                case .cacheFile: .inputOutput
                case .numerical: .internalError
                case .cancelled: .interrupted
                }
            case let error as ScoringError:
                switch error.code {
                case .unavailable: .unavailable
                case .badAnswer: .badData
                case .missing: .usage
                case .cancelled: .interrupted
                }
            case is ParameterError, is SnapshotError, is RunBasisError, is LedgerError: .badData
            case let stop as StopSignal: stop == .interrupt ? .interrupted : .terminated
            default: .internalError
            }
    }
}
