// Plain loops that a compiler turns into vectors. They are the portable variant, and the functions for which other variants have nothing better.
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

enum { GENERIC_DAMP_CHUNK = 64 };

/// (32·rest + 2^27) >> 28 in 32 bits, with both sides divided by 32. It is for n ≤ GENERIC_DAMP_CHUNK elements whose rest fits 32 bits.
GENERIC void generic_damp_narrow(const int8_t *b, const int16_t *v, size_t width, const int64_t *c, size_t components,
                                  size_t n, int8_t *output) {
    int32_t rest[GENERIC_DAMP_CHUNK];
    for (size_t j = 0; j < n; j++) rest[j] = b[j] * (1 << 28);
    for (size_t k = 0; k < components; k++)
        for (size_t j = 0; j < n; j++) rest[j] -= v[k * width + j] * (int32_t)c[k];
    for (size_t j = 0; j < n; j++) {
        int32_t damped = (rest[j] + (1 << 22)) >> 23;
        output[j] = (int8_t)(damped > 127 ? 127 : damped < -127 ? -127 : damped);
    }
}

/// The same in 64 bits.
GENERIC void generic_damp_wide(const int8_t *b, const int16_t *v, size_t width, const int64_t *c, size_t components,
                                size_t n, int8_t *output) {
    for (size_t j = 0; j < n; j++) {
        int64_t rest = (int64_t)b[j] * (1 << 28);
        for (size_t k = 0; k < components; k++) rest -= v[k * width + j] * c[k];
        int64_t damped = (rest + (1 << 22)) >> 23;
        output[j] = (int8_t)(damped > 127 ? 127 : damped < -127 ? -127 : damped);
    }
}

/// Makes b̃. The vectors of a basis are short, so nearly always all sums fit 32 bits. A bound on the sums shows whether they do.
GENERIC void generic_damp(const int8_t *signs, const int16_t *basis, size_t components, size_t width, int8_t *output) {
    enum { DOT_CHUNK = 256 };  // number of elements whose dot product fits 32 bits
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
    size_t whole = bound <= INT32_MAX ? width / GENERIC_DAMP_CHUNK * GENERIC_DAMP_CHUNK : 0;
    for (size_t j = 0; j < whole; j += GENERIC_DAMP_CHUNK)
        generic_damp_narrow(signs + j, basis + j, width, c, components, GENERIC_DAMP_CHUNK, output + j);
    generic_damp_wide(signs + whole, basis + whole, width, c, components, width - whole, output + whole);
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

GENERIC void generic_add_signed(const int32_t *restrict values, const int8_t *restrict signs, size_t count, int32_t *restrict sums) {
    for (size_t j = 0; j < count; j++) {
        const int32_t mask = signs[j] >> 7;  // −1 or 0
        sums[j] += (values[j] ^ mask) - mask;
    }
}

/// Does steps 1, 2 and 4 of the transform within one vector of eight values. Where bit h of j is 0, element j becomes the sum of elements j and j ^
/// h, otherwise their difference.
#define GENERIC_HADAMARD_IN_VECTOR(x)                                              \
    do {                                                                           \
        __typeof__(x) low = __builtin_shufflevector(x, x, 0, 0, 2, 2, 4, 4, 6, 6); \
        __typeof__(x) high = __builtin_shufflevector(x, x, 1, 1, 3, 3, 5, 5, 7, 7); \
        x = __builtin_shufflevector(low + high, low - high, 0, 9, 2, 11, 4, 13, 6, 15); \
        low = __builtin_shufflevector(x, x, 0, 1, 0, 1, 4, 5, 4, 5);               \
        high = __builtin_shufflevector(x, x, 2, 3, 2, 3, 6, 7, 6, 7);              \
        x = __builtin_shufflevector(low + high, low - high, 0, 1, 10, 11, 4, 5, 14, 15); \
        low = __builtin_shufflevector(x, x, 0, 1, 2, 3, 0, 1, 2, 3);               \
        high = __builtin_shufflevector(x, x, 4, 5, 6, 7, 4, 5, 6, 7);              \
        x = __builtin_shufflevector(low + high, low - high, 0, 1, 2, 3, 12, 13, 14, 15); \
    } while (0)

/// The fast Walsh-Hadamard transform: first within vectors, then over strides. One pass does two strides if two are left.
#define GENERIC_HADAMARD(name, type)                                                                   \
    GENERIC void name(type *values, uint32_t log_size) {                                               \
        typedef type vector __attribute__((vector_size(8 * sizeof(type))));                            \
        const size_t size = (size_t)1 << log_size;                                                     \
        if (log_size < 3) {                                                                            \
            for (size_t h = 1; h < size; h *= 2)                                                       \
                for (size_t i = 0; i < size; i++)                                                      \
                    if (!(i & h)) {                                                                    \
                        const type a = values[i], b = values[i + h];                                   \
                        values[i] = a + b;                                                             \
                        values[i + h] = a - b;                                                         \
                    }                                                                                  \
            return;                                                                                    \
        }                                                                                              \
        for (size_t i = 0; i < size; i += 8) {                                                         \
            vector x;                                                                                  \
            __builtin_memcpy(&x, values + i, sizeof x);                                                \
            GENERIC_HADAMARD_IN_VECTOR(x);                                                             \
            __builtin_memcpy(values + i, &x, sizeof x);                                                \
        }                                                                                              \
        size_t h = 8;                                                                                  \
        for (; 2 * h < size; h *= 4)                                                                   \
            for (size_t start = 0; start < size; start += 4 * h) {                                     \
                type *a = values + start, *b = a + h, *c = b + h, *d = c + h;                          \
                for (size_t i = 0; i < h; i += 8) {                                                    \
                    vector va, vb, vc, vd;                                                             \
                    __builtin_memcpy(&va, a + i, sizeof va);                                           \
                    __builtin_memcpy(&vb, b + i, sizeof vb);                                           \
                    __builtin_memcpy(&vc, c + i, sizeof vc);                                           \
                    __builtin_memcpy(&vd, d + i, sizeof vd);                                           \
                    const vector ab = va + vb, a_b = va - vb, cd = vc + vd, c_d = vc - vd;             \
                    va = ab + cd, vb = a_b + c_d, vc = ab - cd, vd = a_b - c_d;                        \
                    __builtin_memcpy(a + i, &va, sizeof va);                                           \
                    __builtin_memcpy(b + i, &vb, sizeof vb);                                           \
                    __builtin_memcpy(c + i, &vc, sizeof vc);                                           \
                    __builtin_memcpy(d + i, &vd, sizeof vd);                                           \
                }                                                                                      \
            }                                                                                          \
        if (h < size)                                                                                  \
            for (size_t i = 0; i < h; i += 8) {                                                        \
                vector va, vb;                                                                         \
                __builtin_memcpy(&va, values + i, sizeof va);                                          \
                __builtin_memcpy(&vb, values + h + i, sizeof vb);                                      \
                const vector sum = va + vb, difference = va - vb;                                      \
                __builtin_memcpy(values + i, &sum, sizeof sum);                                        \
                __builtin_memcpy(values + h + i, &difference, sizeof difference);                      \
            }                                                                                          \
    }

GENERIC_HADAMARD(generic_hadamard, int32_t)
GENERIC_HADAMARD(generic_hadamard_doubles, double)
#endif
