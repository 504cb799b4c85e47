// An executable's own cblas_sgemm comes before the library's, so a benchmark that links this measures every matrix product without
// a hook in the program that it measures.
#define _GNU_SOURCE
#include <cblas.h>
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "gemm_meter.h"

typedef void sgemm(CBLAS_LAYOUT, CBLAS_TRANSPOSE, CBLAS_TRANSPOSE, blasint, blasint, blasint, float, const float *, blasint, const float *,
                   blasint, float, float *, blasint);

static _Atomic uint64_t nanoseconds, operations;

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static sgemm *library(void) {
    sgemm *found = (sgemm *)dlsym(RTLD_NEXT, "cblas_sgemm");
    if (!found) exit((fprintf(stderr, "gemm_meter: no cblas_sgemm: %s\n", dlerror()), 1));
    return found;
}

void cblas_sgemm(CBLAS_LAYOUT layout, CBLAS_TRANSPOSE trans_a, CBLAS_TRANSPOSE trans_b, blasint m, blasint n, blasint k, float alpha, const float *a,
                 blasint lda, const float *b, blasint ldb, float beta, float *c, blasint ldc) {
    static _Atomic(sgemm *) product;
    sgemm *own = atomic_load_explicit(&product, memory_order_relaxed);
    if (!own) atomic_store_explicit(&product, own = library(), memory_order_relaxed);
    uint64_t start = now();
    own(layout, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    atomic_fetch_add_explicit(&nanoseconds, now() - start, memory_order_relaxed);
    atomic_fetch_add_explicit(&operations, 2 * (uint64_t)m * (uint64_t)n * (uint64_t)k, memory_order_relaxed);
}

double gemm_meter_seconds(void) { return (double)atomic_load(&nanoseconds) * 1e-9; }
double gemm_meter_operations(void) { return (double)atomic_load(&operations); }
void gemm_meter_reset(void) {
    atomic_store(&nanoseconds, 0);
    atomic_store(&operations, 0);
}
