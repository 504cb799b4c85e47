// Definitions that the variants for x86-64 share.
#ifndef ONEBYTE_X86_H
#define ONEBYTE_X86_H
#if defined(__x86_64__)
#include <immintrin.h>
#include "variants.h"

/// Philox's key of each round: (k0, k1) and its nine increments.
typedef struct {
    uint32_t k0[10], k1[10];
} ob_schedule;

static inline ob_schedule ob_make_schedule(const uint32_t key[2]) {
    ob_schedule schedule;
    for (uint32_t i = 0; i < 10; i++) {
        schedule.k0[i] = key[0] + i * 0x9E3779B9u;
        schedule.k1[i] = key[1] + i * 0xBB67AE85u;
    }
    return schedule;
}

/// Returns two signed words whose sum is M ≤ 65,534. vpmaddwd multiplies a pair of equal words by them.
static inline int32_t ob_halves(uint32_t multiplier) {
    return (int32_t)(multiplier >> 1 | (multiplier - (multiplier >> 1)) << 16);
}

/// Packs rank-1 factors for vpmaddwd: a panel's quad is two pairs of directions, each 16 × two Int16.
void ob_avx2_pack(const int8_t *vectors, size_t stride, size_t width, const int8_t *q, size_t quad, size_t quads,
                  void *packed);
#endif
#endif
