import Foundation

/// Says in words why a request to the hub failed, and what to do.
struct HubFailure {
    /// Variables by which curl is told of proxies.
    static let proxyVariables: Set = ["http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"]

    let reference: HubReference
    let url: String
    let endpoint: String
    /// Where the token is from that was sent; nil if none was.
    let tokenPlace: String?
    let proxies: [String: String]

    private var name: String { reference.repository }
    private var page: String { "\(endpoint)/\(name)" }
    private static let copy = "copy the model's directory to this machine, by whatever way, and give its path"

    /// The variable that names the proxy of this request; nil if it needs none.
    private var proxyVariable: String? {
        let own = url.hasPrefix("https:") ? ["https_proxy", "HTTPS_PROXY"] : ["http_proxy"]
        return (own + ["all_proxy", "ALL_PROXY"]).first { proxies[$0] != nil }
    }

    private func network(_ problem: String, _ remedy: String) -> ModelError { ModelError(.network, file: name, problem, remedy: remedy) }

    // MARK: No answer

    func withoutCurl(_ reason: String) -> ModelError {
        network("can't be downloaded: curl can't be started: \(reason)", "install curl; or \(Self.copy)")
    }

    /// Returns the error for a curl that ended with a status other than 0 (https://curl.se/docs/manpage.html#EXIT).
    ///
    /// - Parameters:
    ///   - message: what curl wrote to standard error; it repeats itself at each try.
    ///   - headers: the headers of whatever answers came.
    func ended(_ status: Int, message: String, headers: String, stallSeconds: Int) -> ModelError {
        let lines = message.split(whereSeparator: \.isNewline)
        let last = lines.last { $0.hasPrefix("curl: ") }.map(String.init) ?? "curl ended with \(status)"
        let reason = last.replacing(#/^curl: \(\d+\) /#, with: "")
        switch status {
        case 126, 127: return withoutCurl("it is not installed, or not in PATH")
        case 1, 3:
            return ModelError(
                .badRequest, file: "HF_ENDPOINT", "\(endpoint) is no address of a hub: \(reason)", remedy: "write it as https://…, or unset it")
        case 5:
            return network(
                "the proxy that \(proxyVariable ?? "the configuration of curl") names has no address: \(reason)",
                "correct the proxy's name, or unset it")
        case 6:
            return network(
                "the hub \(endpoint) can't be reached: its name has no address",
                "check this machine's network and HF_ENDPOINT; without a network, \(Self.copy)")
        case 7:
            return network(
                "\(peer) can't be reached: \(reason)",
                "check this machine's network\(proxyVariable.map { ", \($0)" } ?? "") and HF_ENDPOINT; without a network, \(Self.copy)")
        case 23:
            return ModelError(
                .inputOutput, file: name, "the download can't be written: \(reason)", remedy: "make room, or point HF_HUB_CACHE to another disk")
        case 28:
            return network(
                "\(peer) did not answer, or sent nothing for \(stallSeconds) seconds",
                "try again; if it stays so, check this machine's network, or \(Self.copy)")
        case 35, 51, 53, 54, 58, 59, 60, 64, 66, 77, 80, 82, 83, 90, 91:
            return network(
                "\(peer) is not trusted: \(reason)",
                "install the certificates (ca-certificates), or those of the network's own proxy; check the clock of this machine")
        case 47: return network("the hub \(endpoint) sends from one address to another without end", "check HF_ENDPOINT")
        case 18, 56, 92, 97:
            if let code = reason.firstMatch(of: /response (\d{3})|HTTP code (\d{3}) from proxy/) {
                return refusedByProxy(String(code.1 ?? code.2 ?? ""))
            }
            return network("the download broke off: \(reason)", "try again; files that are whole stay")
        default: return network("the download failed: \(reason)", "try again; files that are whole stay. If it stays so, \(Self.copy)")
        }
    }

    /// Who was called: the proxy, or the hub itself.
    private var peer: String { proxyVariable.map { "the proxy of \($0), or the hub \(endpoint) behind it," } ?? "the hub \(endpoint)" }

    private func refusedByProxy(_ status: String) -> ModelError {
        let variable = proxyVariable ?? "the configuration of curl"
        return network(
            status == "407"
                ? "the proxy that \(variable) names asks for a password (407)"
                : "the proxy that \(variable) names refuses the hub \(endpoint) (\(status))",
            status == "407"
                ? "write it as http://user:password@host:port"
                : "ask for leave to reach \(endpoint), or point HF_ENDPOINT to a mirror that the proxy lets through; or \(Self.copy)")
    }

    // MARK: Another answer than the file

    /// Returns the error for a status other than 200.
    func answered(_ status: String, headers: String) -> ModelError {
        // The hub's own answers carry this code or its name; a proxy's do not.
        let code = Self.value(of: "x-error-code", in: headers)
        switch status {
        case "407": return refusedByProxy(status)
        case "401", "403":
            if code == nil, let variable = proxyVariable, Self.value(of: "x-request-id", in: headers) == nil {
                return network(
                    "the hub, or the proxy that \(variable) names, refuses it (\(status))",
                    "see what \(page) shows in a browser of this network; or \(Self.copy)")
            }
            if code == "GatedRepo" || (status == "403" && tokenPlace != nil) {
                let refusal = tokenPlace.map { "does not give it to the account of the token in \($0)" } ?? "gives it to nobody without a token"
                return network(
                    "is gated: the hub \(refusal) (\(status))",
                    "ask for access at \(page)\(tokenPlace == nil ? ", and set HF_TOKEN to a token of yours" : "")")
            }
            if let tokenPlace {
                return network(
                    "the hub does not take the token in \(tokenPlace) (\(status))",
                    "make a new one at \(endpoint)/settings/tokens; or remove it, if \(name) is public")
            }
            return network(
                "the hub shows no \(name) without a token (\(status)): it does not exist, or it is private or gated",
                "check the name, letter by letter; if it is right, ask for access at \(page) and set HF_TOKEN; there is no local file or directory of that name either"
            )
        case "404":
            if code == "RevisionNotFound" || (code == nil && reference.revision != "main") {
                return ModelError(
                    .notFound, file: name, "the hub does not have the revision \(reference.revision) of it",
                    remedy: "see \(page)/commits/main for those that it has")
            }
            return ModelError(
                .notFound, file: name, "the hub does not have it",
                remedy: "check the name, letter by letter; there is no local file or directory of that name either")
        case "429":
            return network(
                "the hub asks to wait: too many requests from here (429)",
                "wait some minutes\(tokenPlace == nil ? ", or set HF_TOKEN: the limits of an account are higher" : "")")
        case _ where status.hasPrefix("5"): return network("the hub \(endpoint) has a fault (\(status))", "try again later; or \(Self.copy)")
        default: return network("the hub \(endpoint) answered with status \(status)", "check HF_ENDPOINT; or \(Self.copy)")
        }
    }

    /// The error for an answer that no hub gives, such as a login page of the network.
    static func noHub(_ reference: HubReference, _ endpoint: String, _ problem: String) -> ModelError {
        ModelError(
            .network, file: reference.repository, "what answered for the hub \(endpoint) is no hub: its answer \(problem)",
            remedy: "does this network ask for a login first? open \(endpoint)/\(reference.repository) in a browser; or check HF_ENDPOINT")
    }

    /// Returns a header's value in the last of several answers that has it.
    private static func value(of name: String, in headers: String) -> String? {
        var found: String?
        for line in headers.split(whereSeparator: \.isNewline) {
            let parts = line.split(separator: ":", maxSplits: 1)
            guard parts.count == 2, parts[0].lowercased() == name else { continue }
            found = parts[1].trimmingCharacters(in: .whitespaces)
        }
        return found
    }
}
