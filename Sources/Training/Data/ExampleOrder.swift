import Core
import LanguageModel

/// Determines which examples a sample reads. Epochs go over all examples, each in its own order. It is a pure function of (machine, sample,
/// seed), so a sample that is computed again, after a lost connection or a restart, gives the same byte. The choice of examples is the
/// worker's private affair; nothing in the ledger depends on it.
package struct ExampleOrder {
    let exampleCount: Int
    let batchSize: Int
    /// Number of neighbouring samples that read the same examples and so share what is computed once per example.
    let samplesPerBatch: Int
    let seed: UInt64
    private var orders: [Key: [Int32]] = [:]
    private static let ordersKept = 4

    private struct Key: Hashable {
        let machine: UInt32
        let epoch: Int
    }

    package init(exampleCount: Int, batchSize: Int, samplesPerBatch: Int, seed: UInt64) {
        self.exampleCount = exampleCount
        self.batchSize = batchSize
        self.samplesPerBatch = samplesPerBatch
        self.seed = seed
    }

    /// Returns example `i` of the sample's `batchSize` examples.
    package mutating func example(machine: MachineID, sample: SampleNumber, _ i: Int) -> Int {
        let place = Int(sample) / samplesPerBatch * batchSize + i
        let key = Key(machine: machine.rawValue, epoch: place / exampleCount)
        if let order = orders[key] { return Int(order[place % exampleCount]) }
        if orders.count >= Self.ordersKept { orders.removeAll() }
        let order = shuffled(key)
        orders[key] = order
        return Int(order[place % exampleCount])
    }

    /// Returns the order of the first epoch, which is the same for every machine. A prefix cache is filled in this order before the machine
    /// has a number.
    package static func firstEpoch(of exampleCount: Int, seed: UInt64) -> [Int] {
        let order = Self(exampleCount: exampleCount, batchSize: 1, samplesPerBatch: 1, seed: seed)
        return order.shuffled(Key(machine: 0, epoch: 0)).map(Int.init)
    }

    private func shuffled(_ key: Key) -> [Int32] {
        let machine = key.epoch == 0 ? 0 : key.machine
        var random = SplitMix64(state: seed &+ UInt64(machine) &* 0x9E37_79B9_7F4A_7C15 ^ UInt64(key.epoch) << 32)
        var order = (0..<Int32(exampleCount)).map { $0 }
        // As docs/reference/arithmetic.md, "Which examples a sample reads", has it. It is spelt out so that a byte does not depend on any
        // library's shuffle.
        for place in 0..<max(0, order.count - 1) {
            order.swapAt(place, place + Int(Self.number(below: UInt64(order.count - place), &random)))
        }
        return order
    }

    /// Returns a uniform random number below `count` (Lemire 2019, "Fast random integer generation in an interval"): the high word of
    /// random·count, drawn again while the low word is below 2^64 mod count.
    private static func number(below count: UInt64, _ random: inout SplitMix64) -> UInt64 {
        var product = random.next().multipliedFullWidth(by: count)
        if product.low < count {
            let least = (0 &- count) % count
            while product.low < least { product = random.next().multipliedFullWidth(by: count) }
        }
        return product.high
    }
}
