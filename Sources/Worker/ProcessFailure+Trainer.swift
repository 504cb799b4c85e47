import Core
import LanguageModel

extension ProcessFailure {
    /// What a trainer could not do, with the exit status that fits.
    init(trainerError error: any Error) {
        switch error {
        case let failure as ProcessFailure: self = failure
        case let error as ModelError:
            let status: ExitStatus =
                switch error.code {
                case .notFound: .missingInput
                case .inputOutput: .inputOutput
                case .network: .unavailable
                case .malformed, .unsupported, .missingTensor, .wrongShape: .badData
                case .badRequest: .internalError
                case .cancelled: .failure
                }
            self.init(status, "\(error)")
        case let error as TrainingError:
            let status: ExitStatus =
                switch error.code {
                case .badTensors: .configuration
                case .badExample, .noExamples: .badData
                case .cacheFile: .inputOutput
                case .numerical, .cancelled: .failure
                }
            self.init(status, "\(error)")
        case let error as ScoringError:
            let status: ExitStatus =
                switch error.code {
                case .unavailable: .unavailable
                case .badAnswer: .badData
                case .missing: .configuration
                case .cancelled: .failure
                }
            self.init(status, "\(error)")
        case is ParameterError, is RunBasisError, is SnapshotError: self.init(.badData, "\(error)")
        default: self.init(.failure, "\(error)")
        }
    }
}
