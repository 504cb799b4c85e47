import Core
import Glibc
import Synchronization
import Transport

/// A TCP proxy that counts what goes through it in each direction. It can delay data as a long line does, and it can cut connections, even on one
/// side only.
package final class CountingProxy: Sendable {
    private let listener: Int32
    private let target: UInt16
    private let delaySeconds: Double
    package let port: UInt16
    private let up = Atomic<Int>(0)
    private let down = Atomic<Int>(0)
    private let connections = Mutex<[(client: Int32, server: Int32)]>([])
    private let isCut = Atomic<Bool>(false)
    private let isFrozen = Atomic<Bool>(false)
    private let bytesPerSecond: Double

    package var endpoint: String { "tcp://127.0.0.1:\(port)" }
    package var bytesUp: Int { up.load(ordering: .sequentiallyConsistent) }
    package var bytesDown: Int { down.load(ordering: .sequentiallyConsistent) }

    /// - Parameters:
    ///   - endpoint: the address to which it forwards.
    ///   - delaySeconds: delay of each byte in either direction.
    ///   - bytesPerSecond: rate of the line in each direction; 0: unlimited.
    package init(to endpoint: String, delaySeconds: Double = 0, bytesPerSecond: Double = 0) throws {
        self.delaySeconds = delaySeconds
        self.bytesPerSecond = bytesPerSecond
        target = UInt16(endpoint.split(separator: ":").last!)!
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        self.listener = listener
        var address = loopback(port: 0)
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let bound = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                bind(listener, address, size) == 0 && listen(listener, 16) == 0 && getsockname(listener, address, &size) == 0
            }
        }
        guard bound else { throw ProxyFailure() }
        port = UInt16(bigEndian: address.sin_port)
        _ = try NamedThread("proxy") { [self] in accept() }
    }

    /// Closes all connections, or only the workers' side of them, as when a cable is pulled.
    package func cutClients(isSeenByServer: Bool = false) {
        connections.withLock { connections in
            for (client, server) in connections {
                shutdown(client, Int32(SHUT_RDWR))
                if isSeenByServer { shutdown(server, Int32(SHUT_RDWR)) }
            }
            connections.removeAll()
        }
    }

    /// Cuts all connections and lets none through until `mend`.
    package func cut() {
        isCut.store(true, ordering: .sequentiallyConsistent)
        cutClients()
    }

    /// Swallows everything that is sent over the present connections, for ever. Both ends still believe in these connections.
    package func freeze() { isFrozen.store(true, ordering: .sequentiallyConsistent) }

    /// Lets new connections through again after `freeze`.
    package func thaw() {
        connections.withLock { $0.removeAll() }
        isFrozen.store(false, ordering: .sequentiallyConsistent)
    }

    package func mend() { isCut.store(false, ordering: .sequentiallyConsistent) }

    package func close() {
        shutdown(listener, Int32(SHUT_RDWR))
        cutClients()
    }

    private func accept() {
        while true {
            let client = Glibc.accept(listener, nil, nil)
            guard client >= 0 else { break }
            if isCut.load(ordering: .sequentiallyConsistent) {
                Glibc.close(client)
                continue
            }
            let server = connectLoopback(port: target)
            connections.withLock { $0.append((client, server)) }
            _ = try? NamedThread("proxy-up") { [self] in pump(from: client, to: server, up, closes: false) }
            _ = try? NamedThread("proxy-down") { [self] in pump(from: server, to: client, down, closes: true) }
        }
        Glibc.close(listener)
    }

    private func pump(from: Int32, to: Int32, _ counter: borrowing Atomic<Int>, closes: Bool) {
        // Another thread sends what is read, so that a delay does not limit the rate.
        let line = Mailbox<Parcel>()
        _ = try? NamedThread("proxy-line") { [self] in
            let clock = ProcessClock()
            var isDead = false
            while true {
                for parcel in line.waitAndTakeAll() {
                    let early = parcel.due.seconds(since: clock.now)
                    if early > 0 { usleep(UInt32(early * 1e6)) }
                    if parcel.bytes.isEmpty {
                        if closes { shutdown(to, Int32(SHUT_RDWR)) }
                        return
                    }
                    // A connection that was caught by a freeze stays dead.
                    isDead = isDead || isFrozen.load(ordering: .sequentiallyConsistent)
                    if !isDead { send(parcel.bytes, to: to) }
                }
            }
        }
        let clock = ProcessClock()
        // A thin line reads small pieces, so that the sender notices its rate.
        var buffer = [UInt8](repeating: 0, count: bytesPerSecond > 0 ? 1 << 10 : 1 << 16)
        while true {
            let count = max(read(from, &buffer, buffer.count), 0)
            if bytesPerSecond > 0 { usleep(UInt32(Double(count) / bytesPerSecond * 1e6)) }
            counter.wrappingAdd(count, ordering: .sequentiallyConsistent)
            line.post(Parcel(due: clock.now.advanced(bySeconds: delaySeconds), bytes: Array(buffer[..<count])))
            if count == 0 { return }
        }
    }

    /// Bytes on their way; an empty parcel is the end of a connection.
    private struct Parcel: Sendable {
        let due: Timestamp
        let bytes: [UInt8]
    }
}

private func send(_ bytes: [UInt8], to descriptor: Int32) {
    var rest = bytes[...]
    while !rest.isEmpty {
        let written = rest.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        guard written > 0 else { return }
        rest = rest.dropFirst(written)
    }
}

package struct ProxyFailure: Error {}

private func loopback(port: UInt16) -> sockaddr_in {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    return address
}

package func connectLoopback(port: UInt16) -> Int32 {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = loopback(port: port)
    _ = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
    }
    return descriptor
}
