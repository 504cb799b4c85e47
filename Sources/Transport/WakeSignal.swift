import Glibc

/// A waker for a thread that waits for nothing but wakers: a condition variable, and a flag that remembers a wake that came early.
package final class WakeSignal: Waker {
    // Both are made for use by several threads at once. They are allocated because they must not move.
    nonisolated(unsafe) private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    nonisolated(unsafe) private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    /// Guarded by the mutex.
    nonisolated(unsafe) private var isAwake = false

    package init() {
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        // With the monotonic clock a change of the wall clock makes no wait longer.
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

    /// Waits for the next `wake`, for at most `seconds`; nil: without a limit. A wake that has come since the last wait counts.
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

    /// A longer wait ends after this time. That is allowed and keeps the arithmetic in range.
    private static let secondsMax = 3600.0
}
