// An executable's own malloc takes precedence over the library's. So every allocation of the process is counted, including those of the
// Swift runtime.
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include "gemm_meter.h"

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);

static _Atomic uint64_t count, bytes;

static void *counted(void *found, size_t size) {
    atomic_fetch_add_explicit(&count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&bytes, size, memory_order_relaxed);
    return found;
}

void *malloc(size_t size) { return counted(__libc_malloc(size), size); }
void *calloc(size_t n, size_t size) { return counted(__libc_calloc(n, size), n * size); }
void *realloc(void *old, size_t size) { return counted(__libc_realloc(old, size), size); }
void *aligned_alloc(size_t alignment, size_t size) { return counted(__libc_memalign(alignment, size), size); }

int posix_memalign(void **found, size_t alignment, size_t size) {
    void *block = aligned_alloc(alignment, size);
    if (!block) return ENOMEM;
    *found = block;
    return 0;
}

double allocation_meter_count(void) { return (double)atomic_load(&count); }
double allocation_meter_bytes(void) { return (double)atomic_load(&bytes); }
