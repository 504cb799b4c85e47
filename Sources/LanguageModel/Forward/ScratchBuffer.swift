/// Memory on a cache line boundary that grows on demand and is kept. Code that reserves its scratch here stops allocating once it has seen
/// its largest batch. Growing discards the contents.
package final class ScratchBuffer<Element: BitwiseCopyable>: @unchecked Sendable {  // one thread at a time; owners see to it
    /// Bytes of a cache line, and of the widest vector load.
    private static var alignment: Int { 64 }
    package private(set) var pointer: UnsafeMutablePointer<Element>
    package private(set) var capacity: Int

    package init(capacity: Int = 64) {
        self.capacity = capacity
        pointer = Self.allocate(capacity)
    }

    /// Copies an array.
    package convenience init(_ elements: [Element]) {
        self.init(capacity: max(elements.count, 1))
        for (i, element) in elements.enumerated() { pointer[i] = element }
    }

    deinit { UnsafeMutableRawPointer(pointer).deallocate() }

    /// Makes room for at least `count` elements, with undefined contents.
    @discardableResult
    package func reserve(_ count: Int) -> UnsafeMutablePointer<Element> {
        if count > capacity {
            UnsafeMutableRawPointer(pointer).deallocate()
            capacity = max(count, capacity + capacity / 2)
            pointer = Self.allocate(capacity)
        }
        return pointer
    }

    private static func allocate(_ capacity: Int) -> UnsafeMutablePointer<Element> {
        UnsafeMutableRawPointer
            .allocate(byteCount: max(capacity, 1) * MemoryLayout<Element>.stride, alignment: alignment)
            .bindMemory(to: Element.self, capacity: max(capacity, 1))
    }
}
