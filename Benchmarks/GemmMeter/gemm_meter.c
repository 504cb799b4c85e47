// Benchmarks are linked with `--wrap`, so that calls of Kernels' products go through these functions. Every matrix product is measured
// without a hook in the program.
#define _GNU_SOURCE
#include <kernels.h>
#include <stdatomic.h>
#include <time.h>
#include "gemm_meter.h"

void __real_ob_product(const float *, size_t, size_t, size_t, const ob_matrix *, const ob_rank1_terms *, float *, size_t, int, float *);
void __real_ob_gated_product(int, const float *, size_t, size_t, size_t, const ob_matrix *, const ob_matrix *, const ob_rank1_terms *,
                                   const ob_rank1_terms *, float *, size_t, float *);

static _Atomic uint64_t nanoseconds, operations;

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void add(uint64_t start, uint64_t multiply_adds) {
    atomic_fetch_add_explicit(&nanoseconds, now() - start, memory_order_relaxed);
    atomic_fetch_add_explicit(&operations, 2 * multiply_adds, memory_order_relaxed);
}

void __wrap_ob_product(const float *x, size_t x_stride, size_t rows, size_t plus, const ob_matrix *w, const ob_rank1_terms *terms, float *y,
                            size_t y_stride, int accumulate, float *scratch) {
    const uint64_t start = now();
    __real_ob_product(x, x_stride, rows, plus, w, terms, y, y_stride, accumulate, scratch);
    add(start, (uint64_t)rows * w->outputs * w->inputs);
}

void __wrap_ob_gated_product(int kind, const float *x, size_t x_stride, size_t rows, size_t plus, const ob_matrix *gate, const ob_matrix *up,
                                   const ob_rank1_terms *gate_terms, const ob_rank1_terms *up_terms, float *y, size_t y_stride,
                                   float *scratch) {
    const uint64_t start = now();
    __real_ob_gated_product(kind, x, x_stride, rows, plus, gate, up, gate_terms, up_terms, y, y_stride, scratch);
    add(start, 2 * (uint64_t)rows * gate->outputs * gate->inputs);
}

double gemm_meter_seconds(void) { return (double)atomic_load(&nanoseconds) * 1e-9; }
double gemm_meter_operations(void) { return (double)atomic_load(&operations); }
void gemm_meter_reset(void) {
    atomic_store(&nanoseconds, 0);
    atomic_store(&operations, 0);
}
