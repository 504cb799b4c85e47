// The parts of quantised.c that the compiler vectorises. They are included once for each instruction set, with TARGET, NAME and LANES defined.
// Nothing here is fused or reordered, so all instruction sets give the same bits.

typedef float NAME(vf) __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t NAME(vi) __attribute__((vector_size(4 * LANES), aligned(4)));
typedef uint8_t NAME(vu8) __attribute__((vector_size(LANES), aligned(1)));
#define VF NAME(vf)
#define VI NAME(vi)
#define VU8 NAME(vu8)
#define VECTORS (BLOCK / LANES)
#define LOAD(p) (*(const VF *)(p))
#define SPLAT(s) ((float)(s) - (VF){0})
#define INLINE TARGET static inline __attribute__((always_inline))

// Quantises 32 values of a row.
INLINE void NAME(quantise_block)(const float *x, row_block *out) {
    VI magnitudes = {0};  // magnitudes compare like their bits, and values that are not finite have the largest bits
    for (int i = 0; i < VECTORS; i++) {
        const VI bits = (VI)LOAD(x + LANES * i) & 0x7fffffff;
        magnitudes = __builtin_elementwise_max(magnitudes, bits);
    }
    const int32_t top = __builtin_reduce_max(magnitudes);
    float largest;
    memcpy(&largest, &top, sizeof largest);
    const float factor = LIMIT / largest;
    if (!(largest > 0 && isfinite(largest) && isfinite(factor))) {
        // A block whose largest value is too small to divide by counts as zeros.
        memset(out->q, 0, sizeof out->q);
        out->scale = out->sum = isfinite(largest) ? 0 : NAN;
        return;
    }
    const float magic = 12582912.0f;  // 1.5·2²³: adding it rounds to the nearest integer, which is then in the lowest bits
    const int32_t magic_bits = 0x4b400000;
    VI sums = {0};
    for (int i = 0; i < VECTORS; i++) {
        const VI q = (VI)(LOAD(x + LANES * i) * SPLAT(factor) + SPLAT(magic)) - magic_bits;
        sums += q;
        const VU8 bytes = __builtin_convertvector(q, VU8);
        memcpy(out->q + LANES * i, &bytes, LANES);
    }
    out->scale = largest / LIMIT;
    out->sum = out->scale * (float)__builtin_reduce_add(sums);
}

TARGET static void NAME(quantise_row)(const float *x, size_t inputs, row_block *out) {
    for (; inputs >= BLOCK; inputs -= BLOCK, x += BLOCK, out++) NAME(quantise_block)(x, out);
    if (inputs == 0) return;
    float rest[BLOCK] = {0};
    memcpy(rest, x, inputs * sizeof *rest);
    NAME(quantise_block)(rest, out);
}

// Quantises 32 weights of one output.
TARGET static void NAME(quantise_weights)(const float *w, uint8_t *q, float *scale, float *minimum) {
    VF low = LOAD(w), high = low;
    VI magnitudes = {0};
    for (int i = 0; i < VECTORS; i++) {
        const VF v = LOAD(w + LANES * i);
        low = __builtin_elementwise_min(low, v);
        high = __builtin_elementwise_max(high, v);
        magnitudes = __builtin_elementwise_max(magnitudes, (VI)v & 0x7fffffff);
    }
    const float least = __builtin_reduce_min(low), range = __builtin_reduce_max(high) - least, factor = 255 / range;
    const int is_finite = __builtin_reduce_max(magnitudes) < 0x7f800000, is_flat = !(range > 0 && isfinite(factor));
    *scale = is_finite ? is_flat ? 0 : range / 255 : NAN;
    *minimum = is_finite ? least : NAN;
    if (is_flat || !is_finite) {
        memset(q, 0, BLOCK);
        return;
    }
    for (int i = 0; i < VECTORS; i++) {
        const VI rounded = __builtin_convertvector((LOAD(w + LANES * i) - SPLAT(least)) * SPLAT(factor) + SPLAT(0.5f), VI);
        const VU8 bytes = __builtin_convertvector(rounded, VU8);
        memcpy(q + LANES * i, &bytes, LANES);
    }
}

// y = (adds ? y : 0) + sums.
TARGET static void NAME(finish)(const float *sums, float *y, size_t count, int adds) {
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        const VF v = adds ? LOAD(y + i) + LOAD(sums + i) : LOAD(sums + i);
        memcpy(y + i, &v, sizeof v);
    }
    for (; i < count; i++) y[i] = adds ? y[i] + sums[i] : sums[i];
}

#undef VF
#undef VI
#undef VU8
#undef VECTORS
#undef LOAD
#undef SPLAT
#undef INLINE
