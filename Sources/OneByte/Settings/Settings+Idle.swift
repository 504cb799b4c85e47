import Core
import Training

extension Settings {
    /// Returns settings that were given but have no effect in this run, each with the reason, so that the user is told. A value equal to
    /// the default, as in a run file written by a run, was not asked for and is left out.
    package func idle() -> [String] {
        var found: [String] = []
        func note(_ keys: [SettingKey], _ reason: String, if isIdle: Bool) {
            guard isIdle else { return }
            for key in keys where isGiven(key) && given(key) != key.setting.standard.value(self)?.value {
                found.append("\(key.rawValue) does nothing here: \(reason) (\(source(key)?.description ?? ""))")
            }
        }
        let patterns = (try? texts(.train)) ?? []
        let hasAdapters = patterns.contains { $0.hasPrefix(RunSpec.adapterPrefix) }
        let isDamped = (try? integer(.dampedComponents)) ?? 0 > 0
        let kind = optionalText(.kind).flatMap(TaskSpec.Kind.init(rawValue:))
        note([.adapterInputs, .adapterOutputs, .outputDirections, .whiteningFloor], "no adapter is trained", if: !hasAdapters)
        note(
            [.adapterOutputs], "a classification's adapter has one output fewer than there are labels",
            if: hasAdapters && isClassification && !adaptsLayers)
        note(
            [.basisText], "no adapter is trained and no components are damped, so that nothing is made from public text",
            if: !hasAdapters && !isDamped)
        note([.perturbation], "adapters have directions of their own, and nothing else is trained", if: trainsOnlyAdapters)
        note([.precision], "adapters are computed in floats, and nothing else is trained", if: trainsOnlyAdapters)
        note([.prefixPrecision], "all layers are trained, so that no hidden states are kept", if: patterns.contains("all"))
        note([.filterFactor], "there is no filter", if: optionalText(.filter).flatMap(RoundFilter.Kind.init(rawValue:)) == nil)
        note([.labels], "only a classification has labels, and this is a \(kind?.rawValue ?? "")", if: kind != nil && kind != .classification)
        note([.template], "a \(kind?.rawValue ?? "") has no template", if: kind == .chat || kind == .text)
        note([.privacyDelta, .privacyClip, .privacyNoise], "privacy-epsilon is 0, so that bytes have no noise", if: (try? isPrivate) == false)
        note([.evaluateEvery], "there is nothing to evaluate: no eval-file", if: !has(.evalFile) && has(.trainFile))
        note([.cacheMemory], "cache-directory keeps all hidden states in files", if: has(.cacheDirectory))
        return found
    }
}
