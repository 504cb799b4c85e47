import Glibc

/// A waker for a thread that waits for nothing but wakers: a condition variable and a flag that remembers a wake which came early.
package final class WakeSignal: Waker {
    // Both are made for being used by several threads at once; they are allocated because they may not move.
    nonisolated(unsafe) private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    nonisolated(unsafe) private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    /// Guarded by the mutex.
    nonisolated(unsafe) private var isAwake = false

    package init() {
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        // A step of the wall clock makes no wait longer.
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    package func wake() {
        pthread_mutex_lock(mutex)
        isAwake = true
        pthread_mutex_unlock(mutex)
        pthread_cond_signal(condition)
    }

    /// Waits for the next `wake`, or takes one that has come since the last wait; at most `seconds`, nil: for as long as it takes.
    package func wait(seconds: Double? = nil) {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        if let seconds {
            var end = timespec()
            clock_gettime(CLOCK_MONOTONIC, &end)
            let nanoseconds = end.tv_nsec + Int(min(max(seconds, 0), Self.secondsMax) * 1e9)
            end.tv_sec += nanoseconds / 1_000_000_000
            end.tv_nsec = nanoseconds % 1_000_000_000
            while !isAwake, pthread_cond_timedwait(condition, mutex, &end) == 0 {}
        } else {
            while !isAwake { pthread_cond_wait(condition, mutex) }
        }
        isAwake = false
    }

    /// A longer wait is cut short here, which is allowed and keeps the arithmetic in range.
    private static let secondsMax = 3600.0
}
