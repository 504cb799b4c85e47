import Core
import Glibc

/// Tests whether a TCP connection can be made. It sends no data.
public enum TCPProbe: Hashable, Sendable {
    case connected(seconds: Double)
    /// The host is there, but nothing listens at the port.
    case refused
    /// There was no answer: the host is down, the route is blocked, or packets get lost.
    case silent(seconds: Double)
    /// This host has no route there.
    case noRoute(String)
    case failed(String)

    /// Tries to connect to an address in digits, for at most `seconds`.
    public static func connect(to number: String, port: Int, seconds: Double) -> TCPProbe {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_flags = AI_NUMERICHOST
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(number, "\(port)", &hints, &list) == 0, let entry = list?.pointee else { return .failed("\(number) is no address") }
        defer { freeaddrinfo(list) }
        let descriptor = socket(entry.ai_family, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
        guard descriptor >= 0 else { return .failed(String(cString: strerror(errno))) }
        defer { close(descriptor) }
        let clock = ProcessClock()
        let start = clock.now
        if Glibc.connect(descriptor, entry.ai_addr, entry.ai_addrlen) == 0 { return .connected(seconds: clock.now.seconds(since: start)) }
        guard errno == EINPROGRESS else { return outcome(errno, seconds) }
        var item = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        let end = start.advanced(bySeconds: seconds)
        while true {
            let left = end.seconds(since: clock.now)
            let ready = poll(&item, 1, Int32((left * 1000).rounded(.up)))
            if ready < 0, errno == EINTR { continue }
            if ready <= 0 { return .silent(seconds: seconds) }
            break
        }
        var code: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &length)
        return code == 0 ? .connected(seconds: clock.now.seconds(since: start)) : outcome(code, clock.now.seconds(since: start))
    }

    private static func outcome(_ code: Int32, _ seconds: Double) -> TCPProbe {
        switch code {
        case ECONNREFUSED: .refused
        case ETIMEDOUT: .silent(seconds: seconds)
        case ENETUNREACH, EHOSTUNREACH, ENETDOWN: .noRoute(String(cString: strerror(code)))
        default: .failed(String(cString: strerror(code)))
        }
    }
}
