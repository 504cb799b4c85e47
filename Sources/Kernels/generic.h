// Plain loops that a compiler turns into vectors: the portable variant, and others for what they have no better way of.
#ifndef ONEBYTE_GENERIC_H
#define ONEBYTE_GENERIC_H
#include "variants.h"

#define GENERIC static inline __attribute__((always_inline))

GENERIC void generic_philox(uint32_t c[4], uint32_t k0, uint32_t k1) {
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c[0], p1 = (uint64_t)0xCD9E8D57u * c[2];
        uint32_t c1 = c[1], c3 = c[3];
        c[0] = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c[1] = (uint32_t)p1;
        c[2] = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c[3] = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

enum { GENERIC_SHAPE_CHUNK = 64 };

/// (32·rest + 2^27) >> 28, by five bits less, for n ≤ GENERIC_SHAPE_CHUNK elements whose rest fits 32 bits.
GENERIC void generic_shape_narrow(const int8_t *b, const int16_t *v, size_t width, const int64_t *c, size_t components,
                                  size_t n, int8_t *output) {
    int32_t rest[GENERIC_SHAPE_CHUNK];
    for (size_t j = 0; j < n; j++) rest[j] = b[j] * (1 << 28);
    for (size_t k = 0; k < components; k++)
        for (size_t j = 0; j < n; j++) rest[j] -= v[k * width + j] * (int32_t)c[k];
    for (size_t j = 0; j < n; j++) {
        int32_t shaped = (rest[j] + (1 << 22)) >> 23;
        output[j] = (int8_t)(shaped > 127 ? 127 : shaped < -127 ? -127 : shaped);
    }
}

/// The same in 64 bits.
GENERIC void generic_shape_wide(const int8_t *b, const int16_t *v, size_t width, const int64_t *c, size_t components,
                                size_t n, int8_t *output) {
    for (size_t j = 0; j < n; j++) {
        int64_t rest = (int64_t)b[j] * (1 << 28);
        for (size_t k = 0; k < components; k++) rest -= v[k * width + j] * c[k];
        int64_t shaped = (rest + (1 << 22)) >> 23;
        output[j] = (int8_t)(shaped > 127 ? 127 : shaped < -127 ? -127 : shaped);
    }
}

/// b̃. The vectors of a basis are short, so nearly always all sums fit 32 bits, which a bound on them shows.
GENERIC void generic_shape(const int8_t *signs, const int16_t *basis, size_t components, size_t width, int8_t *output) {
    enum { DOT_CHUNK = 256 };  // elements whose dot product fits 32 bits
    int64_t c[1024], bound = (1 << 28) + (1 << 22);
    for (size_t k = 0; k < components; k++) {
        const int16_t *v = basis + k * width;
        int16_t low = 0, high = 0;
        for (size_t j = 0; j < width; j++) {
            low = v[j] < low ? v[j] : low;
            high = v[j] > high ? v[j] : high;
        }
        c[k] = 0;
        for (size_t start = 0; start < width; start += DOT_CHUNK) {
            size_t n = width - start < DOT_CHUNK ? width - start : DOT_CHUNK;
            int32_t part = 0;
            for (size_t j = 0; j < n; j++) part += v[start + j] * signs[start + j];
            c[k] += part;
        }
        bound += (high > -low ? high : -low) * (c[k] < 0 ? -c[k] : c[k]);  // below 2^50 each
    }
    size_t whole = bound <= INT32_MAX ? width / GENERIC_SHAPE_CHUNK * GENERIC_SHAPE_CHUNK : 0;
    for (size_t j = 0; j < whole; j += GENERIC_SHAPE_CHUNK)
        generic_shape_narrow(signs + j, basis + j, width, c, components, GENERIC_SHAPE_CHUNK, output + j);
    generic_shape_wide(signs + whole, basis + whole, width, c, components, width - whole, output + whole);
}

/// One row of a variant's step_shift.
GENERIC void generic_step_shift(int32_t *k, const int32_t *sums, size_t count, const ob_shift *shift) {
    const int64_t half = (int64_t)1 << (shift->t - 1);
    const uint32_t sign = (uint32_t)shift->sign;
    for (size_t i = 0; i < count; i++) {
        int64_t delta = ((int64_t)shift->multiplier * sums[i] + half) >> shift->t;
        k[i] = (int32_t)((uint32_t)k[i] - (((uint32_t)delta ^ sign) - sign));
    }
}

GENERIC void generic_to_floats(const int32_t *k, size_t count, float scale, float *values) {
    for (size_t i = 0; i < count; i++) values[i] = (float)k[i] * scale;
}
#endif
