#include "variants.h"
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

// There is one body, compiled once for each instruction set. The compiler vectorises these fixed-length loops well, and the wrappers at the end
// choose at run time. Everything is always_inline; otherwise a body would keep the base instruction set.
#define INLINE static inline __attribute__((always_inline))

INLINE uint16_t load16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE uint32_t load32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE float from_bits(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

INLINE uint32_t to_bits(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

// Converts IEEE binary16 to binary32 without branches, so that loops of it vectorise. A multiplication with 2^112 moves the exponent up and also
// normalises subnormals. Infinities and NaNs get their exponent by hand.
INLINE float half(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    uint32_t rest = (uint32_t)(h & 0x7fff) << 13;
    uint32_t finite = to_bits(from_bits(rest) * 0x1p112f);
    uint32_t special = rest | 0x7f800000;
    return from_bits(sign | (rest >= 0x0f800000 ? special : finite));
}

INLINE void f16_body(const uint8_t *s, float *o, size_t n) {
    for (size_t i = 0; i < n; i++) o[i] = half(load16(s + 2 * i));
}

INLINE void bf16_body(const uint8_t *s, float *o, size_t n) {
    for (size_t i = 0; i < n; i++) o[i] = from_bits((uint32_t)load16(s + 2 * i) << 16);
}

// 32 weights: f16 d; 32 int8.
INLINE void q8_0_body(const uint8_t *s, float *o, size_t n) {
    for (size_t b = 0; b < n / 32; b++, s += 34, o += 32) {
        float d = half(load16(s));
        for (int i = 0; i < 32; i++) o[i] = (float)(int8_t)s[2 + i] * d;
    }
}

// 32 weights: f16 d; 16 bytes, low nibbles first. x = (q − 8)·d
INLINE void q4_0_body(const uint8_t *s, float *o, size_t n) {
    for (size_t b = 0; b < n / 32; b++, s += 18, o += 32) {
        float d = half(load16(s));
        for (int i = 0; i < 16; i++) o[i] = (float)((int)(s[2 + i] & 15) - 8) * d;
        for (int i = 0; i < 16; i++) o[16 + i] = (float)((int)(s[2 + i] >> 4) - 8) * d;
    }
}

// 32 weights: f16 d; f16 m; 16 bytes, low nibbles first. x = q·d + m
INLINE void q4_1_body(const uint8_t *s, float *o, size_t n) {
    for (size_t b = 0; b < n / 32; b++, s += 20, o += 32) {
        float d = half(load16(s)), m = half(load16(s + 2));
        for (int i = 0; i < 16; i++) o[i] = (float)(int)(s[4 + i] & 15) * d + m;
        for (int i = 0; i < 16; i++) o[16 + i] = (float)(int)(s[4 + i] >> 4) * d + m;
    }
}

// As Q4_0, with a fifth bit for each weight in 4 bytes before the nibbles. x = (q − 16)·d
INLINE void q5_0_body(const uint8_t *s, float *o, size_t n) {
    for (size_t b = 0; b < n / 32; b++, s += 22, o += 32) {
        float d = half(load16(s));
        uint32_t high = load32(s + 2);
        for (int i = 0; i < 16; i++) o[i] = (float)((int)((s[6 + i] & 15) | ((high >> i & 1) << 4)) - 16) * d;
        for (int i = 0; i < 16; i++) o[16 + i] = (float)((int)((s[6 + i] >> 4) | ((high >> (i + 16) & 1) << 4)) - 16) * d;
    }
}

// As Q4_1, with a fifth bit. x = q·d + m
INLINE void q5_1_body(const uint8_t *s, float *o, size_t n) {
    for (size_t b = 0; b < n / 32; b++, s += 24, o += 32) {
        float d = half(load16(s)), m = half(load16(s + 2));
        uint32_t high = load32(s + 4);
        for (int i = 0; i < 16; i++) o[i] = (float)(int)((s[8 + i] & 15) | ((high >> i & 1) << 4)) * d + m;
        for (int i = 0; i < 16; i++) o[16 + i] = (float)(int)((s[8 + i] >> 4) | ((high >> (i + 16) & 1) << 4)) * d + m;
    }
}

// Reads one of the eight 6-bit (scale, minimum) pairs that Q4_K and Q5_K pack into 12 bytes.
INLINE void k_scale(const uint8_t *p, int j, int *scale, int *minimum) {
    if (j < 4) {
        *scale = p[j] & 63;
        *minimum = p[j + 4] & 63;
    } else {
        *scale = (p[j + 4] & 15) | (p[j - 4] >> 6 << 4);
        *minimum = (p[j + 4] >> 4) | (p[j] >> 6 << 4);
    }
}

// 256 weights: f16 d; f16 dmin; 12 bytes of scales; 128 bytes of nibbles. x = q·(d·scale) − dmin·minimum, 32 at a time
INLINE void q4_k_body(const uint8_t *s, float *o, size_t n) {
    for (size_t b = 0; b < n / 256; b++, s += 144, o += 256) {
        float d = half(load16(s)), dmin = half(load16(s + 2));
        for (int g = 0; g < 8; g++) {
            int scale, minimum;
            k_scale(s + 4, g, &scale, &minimum);
            float ds = d * (float)scale, ms = dmin * (float)minimum;
            const uint8_t *q = s + 16 + 32 * (g / 2);
            if (g % 2 == 0)
                for (int i = 0; i < 32; i++) o[32 * g + i] = (float)(int)(q[i] & 15) * ds - ms;
            else
                for (int i = 0; i < 32; i++) o[32 * g + i] = (float)(int)(q[i] >> 4) * ds - ms;
        }
    }
}

// As Q4_K, with a fifth bit: byte i of the 32 after the scales holds bit g of weight i of group g.
INLINE void q5_k_body(const uint8_t *s, float *o, size_t n) {
    for (size_t b = 0; b < n / 256; b++, s += 176, o += 256) {
        float d = half(load16(s)), dmin = half(load16(s + 2));
        const uint8_t *high = s + 16;
        for (int g = 0; g < 8; g++) {
            int scale, minimum;
            k_scale(s + 4, g, &scale, &minimum);
            float ds = d * (float)scale, ms = dmin * (float)minimum;
            const uint8_t *q = s + 48 + 32 * (g / 2);
            int shift = g % 2 == 0 ? 0 : 4;
            for (int i = 0; i < 32; i++) {
                int v = (q[i] >> shift & 15) | ((high[i] >> g & 1) << 4);
                o[32 * g + i] = (float)v * ds - ms;
            }
        }
    }
}

// 256 weights: 128 bytes of low nibbles, 64 bytes of high pairs, 16 int8 scales, f16 d. x = (q − 32)·(d·scale)
INLINE void q6_k_body(const uint8_t *s, float *o, size_t n) {
    for (size_t b = 0; b < n / 256; b++, s += 210, o += 256) {
        float d = half(load16(s + 208));
        for (int h = 0; h < 2; h++) {
            const uint8_t *low = s + 64 * h, *high = s + 128 + 32 * h, *scales = s + 192 + 8 * h;
            for (int part = 0; part < 4; part++) {
                const uint8_t *l = low + 32 * (part & 1);
                int nibble = part < 2 ? 0 : 4;
                for (int half16 = 0; half16 < 2; half16++) {
                    float ds = d * (float)(int8_t)scales[2 * part + half16];
                    for (int i = 16 * half16; i < 16 * half16 + 16; i++) {
                        int v = (l[i] >> nibble & 15) | ((high[i] >> (2 * part) & 3) << 4);
                        o[128 * h + 32 * part + i] = (float)(v - 32) * ds;
                    }
                }
            }
        }
    }
}

// 256 weights: 16 bytes of scales (low nibbles) and minima (high nibbles), 64 bytes of pairs of bits, f16 d, f16 dmin. x = q·(d·scale) − dmin·minimum,
// 16 at a time
INLINE void q2_k_body(const uint8_t *s, float *o, size_t n) {
    for (size_t b = 0; b < n / 256; b++, s += 84, o += 256) {
        float d = half(load16(s + 80)), dmin = half(load16(s + 82));
        for (int g = 0; g < 16; g++) {
            float ds = d * (float)(s[g] & 15), ms = dmin * (float)(s[g] >> 4);
            const uint8_t *q = s + 16 + 32 * (g / 8) + 16 * (g % 2);
            int shift = g % 8 / 2 * 2;
            for (int i = 0; i < 16; i++) o[16 * g + i] = (float)(q[i] >> shift & 3) * ds - ms;
        }
    }
}

// 256 weights: 32 bytes with a third bit for each weight, 64 bytes of pairs of bits, sixteen 6-bit scales in 12 bytes, f16 d. x = (q − 4)·d·(scale − 32)
INLINE void q3_k_body(const uint8_t *s, float *o, size_t n) {
    for (size_t b = 0; b < n / 256; b++, s += 110, o += 256) {
        float d = half(load16(s + 108));
        const uint8_t *scales = s + 96;
        for (int g = 0; g < 16; g++) {
            int low = g < 8 ? scales[g] & 15 : scales[g - 8] >> 4, high = scales[8 + g % 4] >> (g / 4 * 2) & 3;
            float ds = d * (float)((low | high << 4) - 32);
            const uint8_t *q = s + 32 + 32 * (g / 8) + 16 * (g % 2), *third = s + 16 * (g % 2);
            int shift = g % 8 / 2 * 2, bit = g / 2;
            for (int i = 0; i < 16; i++) o[16 * g + i] = (float)((q[i] >> shift & 3) - (third[i] >> bit & 1 ? 0 : 4)) * ds;
        }
    }
}

static const int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
// Twice the values of a 4-bit float of 2 exponent bits and one mantissa bit.
static const int8_t fp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

INLINE void table_body(const uint8_t *q, const int8_t *values, float d, float *o) {
    for (int i = 0; i < 16; i++) o[i] = (float)values[q[i] & 15] * d;
    for (int i = 0; i < 16; i++) o[16 + i] = (float)values[q[i] >> 4] * d;
}

// 32 weights: f16 d; 16 bytes, low nibbles first, which number values of a table.
INLINE void iq4_nl_body(const uint8_t *s, float *o, size_t n) {
    for (size_t b = 0; b < n / 32; b++, s += 18, o += 32) table_body(s + 2, iq4_values, half(load16(s)), o);
}

// 256 weights: f16 d; the high 2 bits of eight scales; their low 4 bits; 128 bytes as in IQ4_NL. The table's values times d·(scale − 32)
INLINE void iq4_xs_body(const uint8_t *s, float *o, size_t n) {
    for (size_t b = 0; b < n / 256; b++, s += 136, o += 256) {
        float d = half(load16(s));
        uint16_t high = load16(s + 2);
        for (int g = 0; g < 8; g++) {
            int scale = (s[4 + g / 2] >> (4 * (g % 2)) & 15) | ((high >> (2 * g) & 3) << 4);
            table_body(s + 8 + 16 * g, iq4_values, d * (float)(scale - 32), o + 32 * g);
        }
    }
}

// 32 weights: an exponent e; 16 bytes, low nibbles first. x = value·2^(e − 127), of which the table holds twice the value
INLINE void mxfp4_body(const uint8_t *s, float *o, size_t n) {
    for (size_t b = 0; b < n / 32; b++, s += 17, o += 32) {
        // 2^(e − 128); the two smallest are subnormal.
        float d = from_bits(s[0] < 2 ? 0x00200000u << s[0] : (uint32_t)(s[0] - 1) << 23);
        table_body(s + 1, fp4_values, d, o);
    }
}

// Moves exponent and mantissa to their places in a float; a multiplication corrects the exponent and normalises subnormals.
INLINE void f8_e4m3_body(const uint8_t *s, float *o, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t sign = (uint32_t)(s[i] & 0x80) << 24, rest = s[i] & 0x7f;
        uint32_t finite = to_bits(from_bits(rest << 20) * 0x1p120f);
        o[i] = from_bits(sign | (rest == 0x7f ? 0x7fc00000 : finite));
    }
}

// The high byte of a half.
INLINE void f8_e5m2_body(const uint8_t *s, float *o, size_t n) {
    for (size_t i = 0; i < n; i++) o[i] = half((uint16_t)(s[i] << 8));
}

INLINE void dequantise_body(int type, const void *source, float *o, size_t n) {
    const uint8_t *s = source;
    switch (type) {
    case OB_F32: memcpy(o, s, n * sizeof *o); break;
    case OB_F16: f16_body(s, o, n); break;
    case OB_BF16: bf16_body(s, o, n); break;
    case OB_Q8_0: q8_0_body(s, o, n); break;
    case OB_Q4_0: q4_0_body(s, o, n); break;
    case OB_Q4_1: q4_1_body(s, o, n); break;
    case OB_Q5_0: q5_0_body(s, o, n); break;
    case OB_Q5_1: q5_1_body(s, o, n); break;
    case OB_Q4_K: q4_k_body(s, o, n); break;
    case OB_Q5_K: q5_k_body(s, o, n); break;
    case OB_Q6_K: q6_k_body(s, o, n); break;
    case OB_Q2_K: q2_k_body(s, o, n); break;
    case OB_Q3_K: q3_k_body(s, o, n); break;
    case OB_IQ4_NL: iq4_nl_body(s, o, n); break;
    case OB_IQ4_XS: iq4_xs_body(s, o, n); break;
    case OB_MXFP4: mxfp4_body(s, o, n); break;
    case OB_F8_E4M3: f8_e4m3_body(s, o, n); break;
    case OB_F8_E5M2: f8_e5m2_body(s, o, n); break;
    }
}

size_t ob_block_elements(int type) {
    switch (type) {
    case OB_F32: case OB_F16: case OB_BF16: case OB_F8_E4M3: case OB_F8_E5M2: return 1;
    case OB_Q4_0: case OB_Q4_1: case OB_Q5_0: case OB_Q5_1: case OB_Q8_0: case OB_IQ4_NL: case OB_MXFP4: return 32;
    case OB_Q2_K: case OB_Q3_K: case OB_Q4_K: case OB_Q5_K: case OB_Q6_K: case OB_IQ4_XS: return 256;
    }
    return 0;
}

size_t ob_block_bytes(int type) {
    switch (type) {
    case OB_F32: return 4;
    case OB_F16: case OB_BF16: return 2;
    case OB_Q4_0: return 18;
    case OB_Q4_1: return 20;
    case OB_Q5_0: return 22;
    case OB_Q5_1: return 24;
    case OB_Q8_0: return 34;
    case OB_Q4_K: return 144;
    case OB_Q5_K: return 176;
    case OB_Q6_K: return 210;
    case OB_Q2_K: return 84;
    case OB_Q3_K: return 110;
    case OB_IQ4_NL: return 18;
    case OB_IQ4_XS: return 136;
    case OB_MXFP4: return 17;
    case OB_F8_E4M3: case OB_F8_E5M2: return 1;
    }
    return 0;
}

void ob_dequantise_portable(int type, const void *source, float *out, size_t count) {
    dequantise_body(type, source, out, count);
}

INLINE uint16_t to_bf16(float f) {
    uint32_t u = to_bits(f);
    uint32_t rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16;
    uint32_t nan = u >> 16 | 0x40;  // quiet, so that truncation can't turn it into an infinity
    return (uint16_t)((u & 0x7fffffff) > 0x7f800000 ? nan : rounded);
}

INLINE uint16_t to_f16(float f) {
    uint32_t u = to_bits(f), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    if (a > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (a >= 0x477ff000) return (uint16_t)(sign | 0x7c00);  // 65520 and above round to infinity
    if (a >= 0x38800000) return (uint16_t)(sign | ((a - 0x38000000 + 0xfff + (a >> 13 & 1)) >> 13));
    // Subnormal: adding ½ puts the float's last bit at 2^-24, binary16's smallest step, and the addition rounds to even.
    return (uint16_t)(sign | (to_bits(from_bits(a) + 0.5f) - 0x3f000000));
}

void ob_floats_to_bf16(const float *source, uint16_t *out, size_t count) {
    for (size_t i = 0; i < count; i++) out[i] = to_bf16(source[i]);
}

void ob_floats_to_f16(const float *source, uint16_t *out, size_t count) {
    for (size_t i = 0; i < count; i++) out[i] = to_f16(source[i]);
}

#if defined(__x86_64__)
#define AVX2 __attribute__((target("avx2,f16c")))
#define AVX512 __attribute__((target("avx2,f16c,avx512f,avx512bw,avx512vl,avx512dq"), min_vector_width(512)))

// The 32-weight formats by hand: the compiler alone would pick the bytes out of a block one by one. x = (q − bias)·d + m, with the nibbles from byte
// `at` on in a block of `size` bytes.
AVX512 static inline __attribute__((always_inline)) void nibbles_avx512(
    const uint8_t *s, float *o, size_t n, size_t size, size_t at, int bias, int has_minimum) {
    for (size_t b = 0; b < n / 32; b++, s += size, o += 32) {
        float d = _cvtsh_ss(load16(s)), m = has_minimum ? _cvtsh_ss(load16(s + 2)) : 0;
        __m128i bytes = _mm_loadu_si128((const __m128i *)(s + at)), mask = _mm_set1_epi8(15);
        __m128i low = _mm_sub_epi8(_mm_and_si128(bytes, mask), _mm_set1_epi8((char)bias));
        __m128i high = _mm_sub_epi8(_mm_and_si128(_mm_srli_epi16(bytes, 4), mask), _mm_set1_epi8((char)bias));
        __m512 dd = _mm512_set1_ps(d), mm = _mm512_set1_ps(m);
        __m512 x = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(low)), dd);
        __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(high)), dd);
        _mm512_storeu_ps(o, has_minimum ? _mm512_add_ps(x, mm) : x);
        _mm512_storeu_ps(o + 16, has_minimum ? _mm512_add_ps(y, mm) : y);
    }
}

AVX2 static inline __attribute__((always_inline)) void nibbles_avx2(
    const uint8_t *s, float *o, size_t n, size_t size, size_t at, int bias, int has_minimum) {
    for (size_t b = 0; b < n / 32; b++, s += size, o += 32) {
        float d = _cvtsh_ss(load16(s)), m = has_minimum ? _cvtsh_ss(load16(s + 2)) : 0;
        __m128i bytes = _mm_loadu_si128((const __m128i *)(s + at)), mask = _mm_set1_epi8(15);
        __m128i low = _mm_sub_epi8(_mm_and_si128(bytes, mask), _mm_set1_epi8((char)bias));
        __m128i high = _mm_sub_epi8(_mm_and_si128(_mm_srli_epi16(bytes, 4), mask), _mm_set1_epi8((char)bias));
        __m256 dd = _mm256_set1_ps(d), mm = _mm256_set1_ps(m);
        __m128i parts[4] = {low, _mm_srli_si128(low, 8), high, _mm_srli_si128(high, 8)};
        for (int i = 0; i < 4; i++) {
            __m256 x = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(parts[i])), dd);
            _mm256_storeu_ps(o + 8 * i, has_minimum ? _mm256_add_ps(x, mm) : x);
        }
    }
}

AVX512 static void q8_0_avx512(const uint8_t *s, float *o, size_t n) {
    for (size_t b = 0; b < n / 32; b++, s += 34, o += 32) {
        __m512 d = _mm512_set1_ps(_cvtsh_ss(load16(s)));
        for (int i = 0; i < 32; i += 16) {
            __m512i q = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(s + 2 + i)));
            _mm512_storeu_ps(o + i, _mm512_mul_ps(_mm512_cvtepi32_ps(q), d));
        }
    }
}

AVX2 static void q8_0_avx2(const uint8_t *s, float *o, size_t n) {
    for (size_t b = 0; b < n / 32; b++, s += 34, o += 32) {
        __m256 d = _mm256_set1_ps(_cvtsh_ss(load16(s)));
        for (int i = 0; i < 32; i += 8) {
            __m256i q = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(s + 2 + i)));
            _mm256_storeu_ps(o + i, _mm256_mul_ps(_mm256_cvtepi32_ps(q), d));
        }
    }
}

AVX512 void ob_dequantise_avx512(int type, const void *s, float *o, size_t n) {
    switch (type) {
    case OB_Q4_0: nibbles_avx512(s, o, n, 18, 2, 8, 0); break;
    case OB_Q4_1: nibbles_avx512(s, o, n, 20, 4, 0, 1); break;
    case OB_Q8_0: q8_0_avx512(s, o, n); break;
    default: dequantise_body(type, s, o, n);
    }
}

AVX2 void ob_dequantise_avx2(int type, const void *s, float *o, size_t n) {
    switch (type) {
    case OB_Q4_0: nibbles_avx2(s, o, n, 18, 2, 8, 0); break;
    case OB_Q4_1: nibbles_avx2(s, o, n, 20, 4, 0, 1); break;
    case OB_Q8_0: q8_0_avx2(s, o, n); break;
    default: dequantise_body(type, s, o, n);
    }
}

#endif

void ob_dequantise(int type, const void *source, float *out, size_t count) {
    ob_current_variant()->dequantise(type, source, out, count);
}
