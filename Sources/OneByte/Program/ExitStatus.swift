import ArgumentParser
import Coordinator
import Core
import LanguageModel
import Signing
import Training
import Transport

/// Maps errors to exit statuses. No other file does this.
extension ExitStatus {
    package init(_ error: any Error) {
        self =
            switch error {
            case let error as ProcessFailure: error.status
            case let error as TransportError: error.status
            case let error as SigningKeyError:
                switch error.code {
                case .missing: .missingInput
                case .unsafe, .malformed: .configuration
                case .exists: .cannotCreate
                case .inputOutput: .inputOutput
                }
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
                case .badRequest, .occupied: .usage
                case .network: .unavailable
                case .cancelled: .interrupted
                }
            case let error as TrainingError:
                switch error.code {
                case .badTensors: .configuration
                case .badExample, .noExamples: .badData
                case .cacheFile: .inputOutput
                case .numerical: .failure
                case .cancelled: .interrupted
                }
            case let error as ScoringError:
                switch error.code {
                case .unavailable, .tooSlow: .unavailable
                case .badAnswer: .badData
                case .missing: .configuration
                case .cancelled: .interrupted
                }
            case is DirectionError, is PrivacyError: .configuration
            case is ParameterError, is SnapshotError, is RunBasisError, is LedgerError: .badData
            case let stop as StopSignal: stop == .interrupt ? .interrupted : .terminated
            default: .internalError
            }
    }
}

extension ProcessFailure {
    /// Turns any error into the failure with which a process ends.
    package init(_ error: any Error) {
        self = error as? ProcessFailure ?? ProcessFailure(ExitStatus(error), describe(error))
    }
}
