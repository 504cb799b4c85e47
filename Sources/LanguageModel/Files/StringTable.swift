/// Many short byte strings in one allocation.
struct StringTable: Sendable {
    private var bytes: [UInt8] = []
    private var ends: [Int] = []

    init() {}

    init(_ strings: some Sequence<some Sequence<UInt8>>) {
        for string in strings { append(string) }
    }

    var count: Int { ends.count }
    var indices: Range<Int> { 0..<ends.count }

    subscript(index: Int) -> ArraySlice<UInt8> {
        bytes[(index == 0 ? 0 : ends[index - 1])..<ends[index]]
    }

    mutating func append(_ string: some Sequence<UInt8>) {
        bytes.append(contentsOf: string)
        ends.append(bytes.count)
    }
}
