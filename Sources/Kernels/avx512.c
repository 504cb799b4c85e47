// AVX-512 (F, BW, DQ, VL), with variants that add VNNI, then VBMI, then AMX.
#if defined(__x86_64__)
#include <string.h>
#include "amx.h"
#include "generic.h"
#include "x86.h"

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#define VNNI __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#define VBMI __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")))

// Random bits

/// Makes a tile of each of `count` directions, at most two: one alone would wait for its own products. The 16 blocks are two vectors of eight 64-bit
/// lanes, blocks 0, 2, … and 1, 3, …. A word is in the low half of a lane. vpmuludq ignores the high halves, so they may hold anything.
AVX512 static inline __attribute__((always_inline)) void tile_words(const ob_schedule *schedule, uint32_t stream,
                                                                    const ob_direction *directions, int count, uint32_t tile,
                                                                    uint32_t *words) {
    const __m512i m0 = _mm512_set1_epi64(0xD2511F53), m1 = _mm512_set1_epi64(0xCD9E8D57);
    const __m512i even = _mm512_set_epi64(14, 12, 10, 8, 6, 4, 2, 0);
    __m512i c0[4], c1[4], c2[4], c3[4];
#pragma unroll
    for (int d = 0; d < count; d++) {
        c0[2 * d] = _mm512_add_epi64(_mm512_set1_epi64((uint32_t)(16 * tile)), even);
        c0[2 * d + 1] = _mm512_add_epi64(c0[2 * d], _mm512_set1_epi64(1));
        c1[2 * d] = c1[2 * d + 1] = _mm512_set1_epi32((int)stream);
        c2[2 * d] = c2[2 * d + 1] = _mm512_set1_epi32((int)directions[d].sample);
        c3[2 * d] = c3[2 * d + 1] = _mm512_set1_epi32((int)directions[d].machine);
    }
#pragma unroll
    for (int round = 0; round < 10; round++) {
        __m512i k0 = _mm512_set1_epi32((int)schedule->k0[round]), k1 = _mm512_set1_epi32((int)schedule->k1[round]);
#pragma unroll
        for (int h = 0; h < 2 * count; h++) {
            __m512i p0 = _mm512_mul_epu32(c0[h], m0), p1 = _mm512_mul_epu32(c2[h], m1);
            c0[h] = _mm512_ternarylogic_epi32(_mm512_srli_epi64(p1, 32), c1[h], k0, 0x96);
            c2[h] = _mm512_ternarylogic_epi32(_mm512_srli_epi64(p0, 32), c3[h], k1, 0x96);
            c1[h] = p1;
            c3[h] = p0;
        }
    }
    const __m512i *in[4] = {c0, c1, c2, c3};
#pragma unroll
    for (int d = 0; d < count; d++)
#pragma unroll
        for (int t = 0; t < 4; t++)
            _mm512_storeu_si512(words + OB_TILE_WORDS * d + 16 * t,
                                _mm512_mask_shuffle_epi32(in[t][2 * d], 0xAAAA, in[t][2 * d + 1], 0xA0));
}

AVX512 static void words(const ob_vector *vector, uint32_t first_tile, size_t tiles, uint32_t *output) {
    const ob_schedule schedule = ob_make_schedule(vector->key);
    const ob_direction direction = {.machine = vector->machine, .sample = vector->sample};
    for (size_t i = 0; i < tiles; i++)
        tile_words(&schedule, vector->stream, &direction, 1, first_tile + (uint32_t)i, output + OB_TILE_WORDS * i);
}

AVX512 static void fused_words(const uint32_t key[2], uint32_t stream, const ob_direction *directions, size_t count,
                               uint32_t tile, uint32_t *output, ob_ahead *ahead) {
    const ob_schedule schedule = ob_make_schedule(key);
    size_t i = 0;
    for (; i + 2 <= count; i += 2) {
        ob_fetch(ahead, 2 * OB_LINES_OF_WORDS);
        tile_words(&schedule, stream, directions + i, 2, tile, output + OB_TILE_WORDS * i);
    }
    if (i < count) tile_words(&schedule, stream, directions + i, 1, tile, output + OB_TILE_WORDS * i);
}

AVX512 static void expand(const uint32_t *input, size_t count, int8_t *signs) {
    const __m512i plus = _mm512_set1_epi8(1), minus = _mm512_set1_epi8(-1);
    size_t i = 0;
    for (; i + 2 <= count; i += 2) {
        uint64_t mask;
        memcpy(&mask, input + i, 8);
        _mm512_storeu_si512(signs + 32 * i, _mm512_mask_blend_epi8(mask, minus, plus));
    }
    if (i < count)
        _mm256_storeu_si256((__m256i *)(signs + 32 * i),
                            _mm256_mask_blend_epi8(input[i], _mm256_set1_epi8(-1), _mm256_set1_epi8(1)));
}

// The table of the normal distribution is antisymmetric, T[255 − i] = −T[i], so 128 entries are enough.

/// Looks 64 bytes up by eight shuffles of 16 entries.
AVX512 static inline __m512i look_up_64(__m512i bytes) {
    __mmask64 upper = _mm512_movepi8_mask(bytes);
    __m512i index = _mm512_xor_si512(bytes, _mm512_maskz_set1_epi8(~upper, -1));  // 128…255
    __m512i result = _mm512_setzero_si512();
#pragma unroll
    for (int j = 0; j < 8; j++) {
        __m512i table = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(ob_gaussian_table + 128 + 16 * j)));
        // Bit 7 stays clear only if the entry is in this table. Otherwise a shuffle gives 0.
        __m512i local = _mm512_adds_epu8(_mm512_sub_epi8(index, _mm512_set1_epi8((char)(128 + 16 * j))), _mm512_set1_epi8(0x70));
        result = _mm512_or_si512(result, _mm512_shuffle_epi8(table, local));
    }
    return _mm512_mask_sub_epi8(result, ~upper, _mm512_setzero_si512(), result);
}

AVX512 static void look_up(const uint8_t *bytes, size_t count, int8_t *output) {
    for (size_t i = 0; i < count; i += 64)
        _mm512_storeu_si512(output + i, look_up_64(_mm512_loadu_si512(bytes + i)));
}

/// Looks 64 bytes up by two byte permutations, with all 256 entries of the table in four registers.
VBMI static inline __m512i permute_64(const __m512i table[4], __m512i bytes) {
    __m512i low = _mm512_permutex2var_epi8(table[0], bytes, table[1]);
    __m512i high = _mm512_permutex2var_epi8(table[2], bytes, table[3]);
    return _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(bytes), high);
}

VBMI static void look_up_vbmi(const uint8_t *bytes, size_t count, int8_t *output) {
    __m512i table[4];
    for (int j = 0; j < 4; j++) table[j] = _mm512_loadu_si512(ob_gaussian_table + 64 * j);
    for (size_t i = 0; i < count; i += 64)
        _mm512_storeu_si512(output + i, permute_64(table, _mm512_loadu_si512(bytes + i)));
}

// Shape

AVX512 static inline __m512i pair_of(int32_t low, int32_t high) {
    return _mm512_set1_epi32((int32_t)((uint32_t)(low & 0xFFFF) | (uint32_t)high << 16));
}

/// Components come in pairs, as vpmaddwd takes them, and each c in two words: c = high·2^12 + low with −2^11 ≤ low < 2^11.
enum { DAMP_PAIRS_MAX = 8, DAMP_LOW_BITS = 12 };

/// Returns 64 elements of b̃. `low` and `high` hold −c of two components in each lane. The four parts of a sum are halves of the 128-bit lanes of the
/// first 32 and of the last 32 elements, in the order that packing undoes.
AVX512 static inline __attribute__((always_inline)) __m512i damp_64(__m512i b, const int16_t *basis, size_t width, size_t pairs,
                                                                     const __m512i *low, const __m512i *high) {
    const __m512i zero = _mm512_setzero_si512(), half = _mm512_set1_epi32(1 << 22);
    const __m512i words[2] = {_mm512_cvtepi8_epi16(_mm512_castsi512_si256(b)), _mm512_cvtepi8_epi16(_mm512_extracti64x4_epi64(b, 1))};
    __m512i rest[4], upper[4];
#pragma unroll
    for (int h = 0; h < 2; h++) {  // b·2^28
        rest[2 * h] = _mm512_add_epi32(_mm512_slli_epi32(_mm512_unpacklo_epi16(zero, words[h]), 12), half);
        rest[2 * h + 1] = _mm512_add_epi32(_mm512_slli_epi32(_mm512_unpackhi_epi16(zero, words[h]), 12), half);
        upper[2 * h] = upper[2 * h + 1] = zero;
    }
    for (size_t pair = 0; pair < pairs; pair++, basis += 2 * width) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            __m512i first = _mm512_loadu_si512(basis + 32 * h), second = _mm512_loadu_si512(basis + width + 32 * h);
            __m512i both[2] = {_mm512_unpacklo_epi16(first, second), _mm512_unpackhi_epi16(first, second)};
#pragma unroll
            for (int i = 0; i < 2; i++) {
                rest[2 * h + i] = _mm512_add_epi32(rest[2 * h + i], _mm512_madd_epi16(both[i], low[pair]));
                upper[2 * h + i] = _mm512_add_epi32(upper[2 * h + i], _mm512_madd_epi16(both[i], high[pair]));
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
        rest[i] = _mm512_srai_epi32(_mm512_add_epi32(rest[i], _mm512_slli_epi32(upper[i], DAMP_LOW_BITS)), 23);
    __m512i packed = _mm512_packs_epi16(_mm512_packs_epi32(rest[0], rest[1]), _mm512_packs_epi32(rest[2], rest[3]));
    packed = _mm512_permutexvar_epi64(_mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0), packed);
    return _mm512_max_epi8(packed, _mm512_set1_epi8(-127));
}

AVX512 static inline __attribute__((always_inline)) void damp_by_words(const int8_t *signs, const int16_t *basis, size_t components,
                                                                        size_t width, int8_t *output) {
    const size_t pairs = components / 2, whole = width / 64 * 64;
    // The general way is for an odd number of components, for many of them, and for what is too short for vectors.
    if (components % 2 || pairs > DAMP_PAIRS_MAX || !whole) {
        generic_damp(signs, basis, components, width, output);
        return;
    }
    int64_t c[2 * DAMP_PAIRS_MAX], bound = (1 << 28) + (1 << 22);
    int fits = 1;
    for (size_t k = 0; k < components; k++) {
        const int16_t *v = basis + k * width;
        __m512i sum = _mm512_setzero_si512(), peak = _mm512_setzero_si512();
        for (size_t j = 0; j < whole; j += 32) {
            __m512i values = _mm512_loadu_si512(v + j);
            __m512i b = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(signs + j)));
            sum = _mm512_add_epi32(sum, _mm512_madd_epi16(values, b));
            peak = _mm512_max_epu16(peak, _mm512_abs_epi16(values));
        }
        uint16_t peaks[32];
        _mm512_storeu_si512(peaks, peak);
        int64_t largest = 0;
        for (int i = 0; i < 32; i++) largest = peaks[i] > largest ? peaks[i] : largest;
        c[k] = _mm512_reduce_add_epi32(sum);
        for (size_t j = whole; j < width; j++) {
            c[k] += v[j] * signs[j];
            int64_t magnitude = v[j] < 0 ? -v[j] : v[j];
            largest = magnitude > largest ? magnitude : largest;
        }
        int64_t magnitude = c[k] < 0 ? -c[k] : c[k];
        bound += largest * magnitude;
        fits &= magnitude < 1 << 26;
    }
    if (!fits || bound > INT32_MAX) {  // 32 bits are used only if a bound on all sums shows that they fit
        generic_damp(signs, basis, components, width, output);
        return;
    }
    __m512i low[DAMP_PAIRS_MAX], high[DAMP_PAIRS_MAX];
    for (size_t pair = 0; pair < pairs; pair++) {
        int32_t words[2][2];
        for (int i = 0; i < 2; i++) {
            const int32_t negative = (int32_t)-c[2 * pair + (size_t)i];
            words[1][i] = (negative + (1 << (DAMP_LOW_BITS - 1))) >> DAMP_LOW_BITS;
            words[0][i] = negative - words[1][i] * (1 << DAMP_LOW_BITS);
        }
        low[pair] = pair_of(words[0][0], words[0][1]);
        high[pair] = pair_of(words[1][0], words[1][1]);
    }
    for (size_t j = 0; j < whole; j += 64)
        _mm512_storeu_si512(output + j, damp_64(_mm512_loadu_si512(signs + j), basis + j, width, pairs, low, high));
    if (whole < width) generic_damp_wide(signs + whole, basis + whole, width, c, components, width - whole, output + whole);
}

AVX512 static void damp(const int8_t *signs, const int16_t *basis, size_t components, size_t width, int8_t *output) {
    damp_by_words(signs, basis, components, width, output);
}

/// As above, with product and sum in one instruction.
VNNI static void damp_vnni(const int8_t *signs, const int16_t *basis, size_t components, size_t width, int8_t *output) {
    damp_by_words(signs, basis, components, width, output);
}

// Dense sums

/// Σ_{bit = 1} q of 16 words in 16 bits, at most 64·127. The words themselves are the masks of the additions.
AVX512 static inline __attribute__((always_inline)) void sum_bits(const uint32_t *input, const int32_t *q, size_t count, __m512i sum[16],
                                                                  ob_ahead *ahead) {
#pragma unroll
    for (int c = 0; c < 16; c++) sum[c] = _mm512_setzero_si512();
    for (size_t i = 0; i < count; i++) {
        const uint32_t *masks = input + OB_TILE_WORDS * i;
        const __m512i byte = _mm512_set1_epi16((short)q[i]);
        if (ahead) ob_fetch(ahead, 1);
#pragma unroll
        for (int c = 0; c < 16; c++) sum[c] = _mm512_mask_add_epi16(sum[c], masks[c], sum[c], byte);
    }
}

AVX512 static inline int32_t total_of(const int32_t *q, size_t count) {
    int32_t total = 0;
    for (size_t i = 0; i < count; i++) total += q[i];
    return total;
}

/// Σ q·z = 2·Σ_{bit = 1} q − Σ q.
AVX512 static void sum_signs(const uint32_t *input, const int32_t *q, size_t count, int32_t *sums) {
    const __m512i all = _mm512_set1_epi32(total_of(q, count));
    for (int t = 0; t < 4; t++) {
        __m512i sum[16];
        sum_bits(input + 16 * t, q, count, sum, 0);
#pragma unroll
        for (int c = 0; c < 16; c++) {
            int32_t *output = sums + 512 * t + 32 * c;
            __m512i low = _mm512_cvtepi16_epi32(_mm512_castsi512_si256(sum[c]));
            __m512i high = _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(sum[c], 1));
            low = _mm512_sub_epi32(_mm512_slli_epi32(low, 1), all);
            high = _mm512_sub_epi32(_mm512_slli_epi32(high, 1), all);
            _mm512_storeu_si512(output, _mm512_add_epi32(_mm512_loadu_si512(output), low));
            _mm512_storeu_si512(output + 16, _mm512_add_epi32(_mm512_loadu_si512(output + 16), high));
        }
    }
}

AVX512 static inline void add_lanes(int32_t *output, __m512i sum) {
    _mm512_storeu_si512(output, _mm512_add_epi32(_mm512_loadu_si512(output), sum));
}

/// Transposes the 128-bit lanes of four vectors: lane l of input j becomes lane j of output l.
AVX512 static inline void transpose_lanes(__m512i v[4]) {
    __m512i a = _mm512_shuffle_i32x4(v[0], v[1], 0x44), b = _mm512_shuffle_i32x4(v[2], v[3], 0x44);
    __m512i c = _mm512_shuffle_i32x4(v[0], v[1], 0xEE), d = _mm512_shuffle_i32x4(v[2], v[3], 0xEE);
    v[0] = _mm512_shuffle_i32x4(a, b, 0x88);
    v[1] = _mm512_shuffle_i32x4(a, b, 0xDD);
    v[2] = _mm512_shuffle_i32x4(c, d, 0x88);
    v[3] = _mm512_shuffle_i32x4(c, d, 0xDD);
}

/// Interleaves the bytes of four vectors: lane l of output j holds elements 16·l + 4·j … + 3, four bytes each.
AVX512 static inline void interleave(const __m512i in[4], __m512i out[4]) {
    __m512i low01 = _mm512_unpacklo_epi8(in[0], in[1]), high01 = _mm512_unpackhi_epi8(in[0], in[1]);
    __m512i low23 = _mm512_unpacklo_epi8(in[2], in[3]), high23 = _mm512_unpackhi_epi8(in[2], in[3]);
    out[0] = _mm512_unpacklo_epi16(low01, low23);
    out[1] = _mm512_unpackhi_epi16(low01, low23);
    out[2] = _mm512_unpacklo_epi16(high01, high23);
    out[3] = _mm512_unpackhi_epi16(high01, high23);
}

AVX512 static void sum_gaussians(const uint32_t *input, const int32_t *q, size_t count, int32_t *sums) {
    for (int t = 0; t < 4; t++) {
        __m512i sum[4];  // for the even and odd groups of eight elements of each half
        for (int j = 0; j < 4; j++) sum[j] = _mm512_setzero_si512();
        for (size_t i = 0; i < count; i += 2) {
            int pair = i + 1 < count;
            const __m512i factors = pair_of(q[i], pair ? q[i + 1] : 0);
            __m512i first = look_up_64(_mm512_loadu_si512(input + OB_TILE_WORDS * i + 16 * t));
            __m512i second = look_up_64(_mm512_loadu_si512(input + OB_TILE_WORDS * (i + pair) + 16 * t));
            // The bytes of both directions go to the high halves of 16-bit lanes, which makes them T·256. They are shifted back with their sign.
            __m512i low = _mm512_unpacklo_epi8(first, second), high = _mm512_unpackhi_epi8(first, second);
            __m512i parts[4] = {
                _mm512_unpacklo_epi8(_mm512_setzero_si512(), low), _mm512_unpackhi_epi8(_mm512_setzero_si512(), low),
                _mm512_unpacklo_epi8(_mm512_setzero_si512(), high), _mm512_unpackhi_epi8(_mm512_setzero_si512(), high),
            };
#pragma unroll
            for (int j = 0; j < 4; j++)
                sum[j] = _mm512_add_epi32(sum[j], _mm512_madd_epi16(_mm512_srai_epi16(parts[j], 8), factors));
        }
        transpose_lanes(sum);
        for (int j = 0; j < 4; j++) add_lanes(sums + 64 * t + 16 * j, sum[j]);
    }
}

/// Takes one quad of directions at a time: (T + 128)·q by vpdpbusd, minus 128·Σq.
VBMI static void sum_gaussians_vbmi(const uint32_t *input, const int32_t *q, size_t count, int32_t *sums) {
    __m512i table[4];
    for (int j = 0; j < 4; j++)
        table[j] = _mm512_xor_si512(_mm512_loadu_si512(ob_gaussian_table + 64 * j), _mm512_set1_epi8(-128));
    int32_t total = 0;
    for (size_t i = 0; i < count; i++) total += q[i];
    for (int t = 0; t < 4; t++) {
        __m512i sum[4];
        for (int j = 0; j < 4; j++) sum[j] = _mm512_set1_epi32(-128 * total);
        for (size_t i = 0; i < count; i += 4) {
            __m512i z[4], quads[4];
            uint32_t factors = 0;
#pragma unroll
            for (size_t j = 0; j < 4; j++) {
                size_t direction = i + j < count ? i + j : i;
                factors |= i + j < count ? (uint32_t)(q[i + j] & 255) << 8 * j : 0;
                z[j] = permute_64(table, _mm512_loadu_si512(input + OB_TILE_WORDS * direction + 16 * t));
            }
            interleave(z, quads);
#pragma unroll
            for (int j = 0; j < 4; j++) sum[j] = _mm512_dpbusd_epi32(sum[j], quads[j], _mm512_set1_epi32((int)factors));
        }
        transpose_lanes(sum);
        for (int j = 0; j < 4; j++) add_lanes(sums + 64 * t + 16 * j, sum[j]);
    }
}

// Steps

/// The factors of a step, from its M, t and sign, in lanes of 64 bits.
typedef struct {
    __m512i multiplier, half, shift, rest;
} step_factors;

/// Uses k + round(x) = k − floor(−x + 1/2 − 2^−t), where x is a multiple of 2^−t: a step that adds has −M and a half that is smaller by one.
AVX512 static inline step_factors make_step(const ob_shift *shift) {
    const int32_t t = shift->t;
    const int64_t multiplier = shift->multiplier;
    return (step_factors){
        .multiplier = _mm512_set1_epi64(shift->sign ? -multiplier : multiplier),
        .half = _mm512_set1_epi64(((int64_t)1 << (t - 1)) - (shift->sign ? 1 : 0)),
        .shift = _mm512_set1_epi64(t),
        .rest = _mm512_set1_epi64(t < 32 ? 32 - t : t - 32),
    };
}

/// Returns 16 elements after their step. `is_long`: t ≥ 32.
AVX512 static inline __m512i stepped(__m512i old, __m512i sum, const step_factors *f, int is_long) {
    __m512i even = _mm512_add_epi64(_mm512_mul_epi32(sum, f->multiplier), f->half);
    __m512i odd = _mm512_add_epi64(_mm512_mul_epi32(_mm512_srli_epi64(sum, 32), f->multiplier), f->half);
    // Takes the 32 bits from t on: into the low half of an even lane, and into the high half of an odd one.
    even = _mm512_srav_epi64(even, f->shift);
    odd = is_long ? _mm512_srav_epi64(odd, f->rest) : _mm512_sllv_epi64(odd, f->rest);
    return _mm512_sub_epi32(old, _mm512_mask_blend_epi32(0xAAAA, even, odd));
}

/// The factors of a step in lanes of 32 bits.
typedef struct {
    __m512i multipliers, half, t, low_twice;
} narrow_factors;

AVX512 static inline narrow_factors make_narrow(const ob_shift *shift) {
    __m512i low_twice = _mm512_broadcast_i32x4(_mm_set_epi64x(0x0D0C0D0C09080908, 0x0504050401000100));
    __asm__("" : "+v"(low_twice));  // hides the value from the compiler, which would make two shuffles of one
    return (narrow_factors){
        .multipliers = _mm512_set1_epi32(ob_halves(shift->multiplier)),
        .half = _mm512_set1_epi32((int32_t)((int64_t)1 << (shift->t - 1))),
        .t = _mm512_set1_epi32(shift->t),  // a vector, because a shift by one register for all lanes would be two instructions
        .low_twice = low_twice,
    };
}

/// Returns elements after their step. `pairs` has the low word of each sum twice; it is multiplied by two words whose sum is M. VNNI does product and
/// sum in one instruction.
AVX512 static inline __m512i stepped_pairs(__m512i old, __m512i pairs, const narrow_factors *f) {
    __m512i product = _mm512_madd_epi16(pairs, f->multipliers);
    return _mm512_sub_epi32(old, _mm512_srav_epi32(_mm512_add_epi32(f->half, product), f->t));
}

AVX512 static inline __m512i stepped_narrow(__m512i old, __m512i sum, const narrow_factors *f) {
    return stepped_pairs(old, _mm512_shuffle_epi8(sum, f->low_twice), f);
}

AVX512 static inline __attribute__((always_inline)) void step_bits(const uint32_t *input, const int32_t *q, size_t count, int32_t *k,
                                                                   const ob_shift *shift, ob_ahead *ahead) {
    const narrow_factors narrow = make_narrow(shift);
    const __m512i all = _mm512_set1_epi16((short)total_of(q, count));
    const __m512i order = _mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0);  // so that the elements are in order after the lanes are interleaved
    for (int t = 0; t < 4; t++) {
        __m512i sum[16];
        sum_bits(input + 16 * t, q, count, sum, ahead);
#pragma unroll
        for (int c = 0; c < 16; c++) {
            int32_t *element = k + 512 * t + 32 * c;
            __m512i words = _mm512_permutexvar_epi64(order, _mm512_sub_epi16(_mm512_add_epi16(sum[c], sum[c]), all));
            __m512i low = _mm512_unpacklo_epi16(words, words), high = _mm512_unpackhi_epi16(words, words);
            _mm512_storeu_si512(element, stepped_pairs(_mm512_loadu_si512(element), low, &narrow));
            _mm512_storeu_si512(element + 16, stepped_pairs(_mm512_loadu_si512(element + 16), high, &narrow));
        }
    }
}

AVX512 static void step_signs(const uint32_t *input, const int32_t *q, size_t count, int32_t *k, const ob_shift *shift,
                              ob_ahead *ahead) {
    step_bits(input, q, count, k, shift, ahead);
}

VNNI static void step_signs_vnni(const uint32_t *input, const int32_t *q, size_t count, int32_t *k, const ob_shift *shift,
                                 ob_ahead *ahead) {
    step_bits(input, q, count, k, shift, ahead);
}

AVX512 static inline __attribute__((always_inline)) void step_row(int32_t *k, const int32_t *sums, size_t count,
                                                                  const step_factors *factors, int is_long,
                                                                  const narrow_factors *narrow) {
    for (size_t i = 0; i < count; i += 16) {
        __mmask16 here = count - i < 16 ? (__mmask16)((1u << (count - i)) - 1) : 0xFFFF;
        __m512i sum = _mm512_maskz_loadu_epi32(here, sums + i), old = _mm512_maskz_loadu_epi32(here, k + i);
        __m512i new = narrow ? stepped_narrow(old, sum, narrow) : stepped(old, sum, factors, is_long);
        _mm512_mask_storeu_epi32(k + i, here, new);
    }
}

AVX512 static void step_shift(int32_t *k, size_t k_stride, const int32_t *sums, size_t sums_stride, size_t rows,
                              size_t count, const ob_shift *shift) {
    const step_factors factors = make_step(shift);
    const narrow_factors narrow = make_narrow(shift);
    for (size_t r = 0; r < rows; r++, k += k_stride, sums += sums_stride) {
        if (shift->is_narrow) step_row(k, sums, count, 0, 0, &narrow);
        else if (shift->t < 32) step_row(k, sums, count, &factors, 0, 0);
        else step_row(k, sums, count, &factors, 1, 0);
    }
}

// Rank-1

/// Gathers four bytes, one of each vector, of 64 elements from `start` on: a's, which are ±1, times q, or b's plus `offset`, modulo 256.
VNNI static inline void quads_of_64(const int8_t *vectors, size_t stride, size_t start, const int8_t *q, char offset, __m512i out[4]) {
    __m512i in[4];
    for (size_t i = 0; i < 4; i++) {
        in[i] = _mm512_loadu_si512(vectors + i * stride + start);
        in[i] = q ? _mm512_mask_sub_epi8(_mm512_maskz_set1_epi8(_mm512_test_epi8_mask(in[i], in[i]), q[i]),
                                         _mm512_movepi8_mask(in[i]), _mm512_setzero_si512(), _mm512_set1_epi8(q[i]))
                  : _mm512_add_epi8(in[i], _mm512_set1_epi8(offset));
    }
    interleave(in, out);
    transpose_lanes(out);
}

/// vpdpbusd takes one factor without a sign, so 128 is added to the b's.
VNNI static void pack_bytes(const int8_t *vectors, size_t stride, size_t width, const int8_t *q, size_t quad, size_t quads,
                            void *packed) {
    char *output = (char *)packed + 64 * quad;
    for (size_t start = 0; start < width; start += 64) {
        __m512i out[4];
        quads_of_64(vectors, stride, start, q, -128, out);
        for (size_t p = 0; p < 4 && start + 16 * p < width; p++)
            _mm512_storeu_si512(output + (start / 16 + p) * quads * 64, out[p]);
    }
}

/// sum += Σ (b + 128)·a of four rows and `panels` panels. It wraps modulo 2^32 and ends in range.
#define ROWS 4
VNNI static inline __attribute__((always_inline)) void add_quads(const char *a, const char *b, size_t b_stride, size_t panels,
                                                                 size_t count, __m512i sum[ROWS][4]) {
    for (size_t g = 0; g < count; g++) {
        __m512i right[4];
#pragma unroll
        for (size_t p = 0; p < panels; p++) right[p] = _mm512_loadu_si512(b + p * b_stride + 64 * g);
#pragma unroll
        for (size_t r = 0; r < ROWS; r++) {
            int32_t left;
            memcpy(&left, a + 64 * g + 4 * r, 4);
#pragma unroll
            for (size_t p = 0; p < panels; p++)
                sum[r][p] = _mm512_dpbusd_epi32(sum[r][p], right[p], _mm512_set1_epi32(left));
        }
    }
}

VNNI static inline __attribute__((always_inline)) void block_vnni(const char *a, const char *b, size_t b_stride,
                                                                  size_t panels, size_t count, const int32_t *start,
                                                                  int32_t *sums, int adds) {
    __m512i sum[ROWS][4];
#pragma unroll
    for (size_t r = 0; r < ROWS; r++)
#pragma unroll
        for (size_t p = 0; p < panels; p++) {
            sum[r][p] = _mm512_set1_epi32(start[r]);
            if (adds) sum[r][p] = _mm512_add_epi32(sum[r][p], _mm512_loadu_si512(sums + OB_BLOCK_COLUMNS * r + 16 * p));
        }
    add_quads(a, b, b_stride, panels, count, sum);
#pragma unroll
    for (size_t r = 0; r < ROWS; r++)
#pragma unroll
        for (size_t p = 0; p < panels; p++) _mm512_storeu_si512(sums + OB_BLOCK_COLUMNS * r + 16 * p, sum[r][p]);
}

/// The sums of this many quads take long enough for k to come from memory meanwhile.
enum { AHEAD_QUADS = 32 };

VNNI static inline __attribute__((always_inline)) void step_block_vnni(const char *a, const char *b, size_t b_stride,
                                                                       size_t panels, size_t count, const int32_t *start,
                                                                       const int32_t *sums, int32_t *k, size_t k_stride,
                                                                       const step_factors *factors, int is_long,
                                                                       const narrow_factors *narrow) {
    __m512i sum[ROWS][4];
#pragma unroll
    for (size_t r = 0; r < ROWS; r++)
#pragma unroll
        for (size_t p = 0; p < panels; p++) {
            sum[r][p] = _mm512_set1_epi32(start[r]);
            if (sums) sum[r][p] = _mm512_add_epi32(sum[r][p], _mm512_loadu_si512(sums + OB_BLOCK_COLUMNS * r + 16 * p));
        }
    if (count >= AHEAD_QUADS)
        for (size_t r = 0; r < ROWS; r++)
            for (size_t p = 0; p < panels; p++) __builtin_prefetch(k + r * k_stride + 16 * p, 1);
    add_quads(a, b, b_stride, panels, count, sum);
#pragma unroll
    for (size_t r = 0; r < ROWS; r++)
#pragma unroll
        for (size_t p = 0; p < panels; p++) {
            int32_t *element = k + r * k_stride + 16 * p;
            __m512i old = _mm512_loadu_si512(element);
            _mm512_storeu_si512(element, narrow ? stepped_narrow(old, sum[r][p], narrow) : stepped(old, sum[r][p], factors, is_long));
        }
}

/// −128·Σ a of each row.
VNNI static void rank1_starts_vnni(const char *a, size_t count, int32_t *starts) {
    __m512i total = _mm512_setzero_si512(), other = _mm512_setzero_si512();
    const __m512i ones = _mm512_set1_epi8(1);
    size_t g = 0;
    for (; g + 2 <= count; g += 2) {
        total = _mm512_dpbusd_epi32(total, ones, _mm512_loadu_si512(a + 64 * g));
        other = _mm512_dpbusd_epi32(other, ones, _mm512_loadu_si512(a + 64 * g + 64));
    }
    if (g < count) total = _mm512_dpbusd_epi32(total, ones, _mm512_loadu_si512(a + 64 * g));
    total = _mm512_add_epi32(total, other);
    _mm512_storeu_si512(starts, _mm512_slli_epi32(_mm512_sub_epi32(_mm512_setzero_si512(), total), 7));
}

VNNI static void rank1_sums_vnni(const char *a, const char *b, size_t b_stride, size_t panels, size_t rows, size_t count,
                                 const int32_t *starts, int32_t *sums, int adds) {
    for (size_t r = 0; r < rows; r += ROWS) {
        int32_t *output = sums + r * OB_BLOCK_COLUMNS;
        switch (panels) {
        case 4: block_vnni(a + 4 * r, b, b_stride, 4, count, starts + r, output, adds); break;
        case 3: block_vnni(a + 4 * r, b, b_stride, 3, count, starts + r, output, adds); break;
        case 2: block_vnni(a + 4 * r, b, b_stride, 2, count, starts + r, output, adds); break;
        default: block_vnni(a + 4 * r, b, b_stride, 1, count, starts + r, output, adds); break;
        }
    }
}

VNNI static inline __attribute__((always_inline)) void step_rows_vnni(const char *a, const char *b, size_t stride, size_t panels,
                                                                      size_t rows, size_t count, const int32_t *starts,
                                                                      size_t panel_starts, const int32_t *sums, int32_t *k,
                                                                      size_t k_stride, const step_factors *factors, int is_long,
                                                                      const narrow_factors *narrow) {
    for (size_t panel = 0; panel < rows; panel += OB_PANEL, a += stride, starts += panel_starts) {
        const size_t end = rows - panel < OB_PANEL ? rows - panel : OB_PANEL;
        for (size_t r = 0; r < end; r += ROWS, k += ROWS * k_stride, sums += sums ? ROWS * OB_BLOCK_COLUMNS : 0)
            switch (panels) {
            case 4: step_block_vnni(a + 4 * r, b, stride, 4, count, starts + r, sums, k, k_stride, factors, is_long, narrow); break;
            case 3: step_block_vnni(a + 4 * r, b, stride, 3, count, starts + r, sums, k, k_stride, factors, is_long, narrow); break;
            case 2: step_block_vnni(a + 4 * r, b, stride, 2, count, starts + r, sums, k, k_stride, factors, is_long, narrow); break;
            default: step_block_vnni(a + 4 * r, b, stride, 1, count, starts + r, sums, k, k_stride, factors, is_long, narrow); break;
            }
    }
}

VNNI static void rank1_step_vnni(const char *a, const char *b, size_t stride, size_t panels, size_t rows, size_t count,
                                 const int32_t *starts, size_t panel_starts, const int32_t *sums, int32_t *k, size_t k_stride,
                                 const ob_shift *shift) {
    if (shift->is_narrow) {
        const narrow_factors narrow = make_narrow(shift);
        step_rows_vnni(a, b, stride, panels, rows, count, starts, panel_starts, sums, k, k_stride, 0, 0, &narrow);
        return;
    }
    const step_factors factors = make_step(shift);
    if (shift->t < 32) step_rows_vnni(a, b, stride, panels, rows, count, starts, panel_starts, sums, k, k_stride, &factors, 0, 0);
    else step_rows_vnni(a, b, stride, panels, rows, count, starts, panel_starts, sums, k, k_stride, &factors, 1, 0);
}

/// The same sums by vpmaddwd, one pair of directions at a time.
AVX512 static inline __attribute__((always_inline)) void block_pairs(const char *a, const char *b, size_t b_stride,
                                                                     size_t panels, size_t count, int32_t *sums, int adds) {
    __m512i sum[ROWS][4];
#pragma unroll
    for (size_t r = 0; r < ROWS; r++)
#pragma unroll
        for (size_t p = 0; p < panels; p++)
            sum[r][p] = adds ? _mm512_loadu_si512(sums + OB_BLOCK_COLUMNS * r + 16 * p) : _mm512_setzero_si512();
    for (size_t g = 0; g < 2 * count; g++) {
        __m512i right[4];
#pragma unroll
        for (size_t p = 0; p < panels; p++) right[p] = _mm512_loadu_si512(b + p * b_stride + 64 * g);
#pragma unroll
        for (size_t r = 0; r < ROWS; r++) {
            int32_t left;
            memcpy(&left, a + 64 * g + 4 * r, 4);
#pragma unroll
            for (size_t p = 0; p < panels; p++)
                sum[r][p] = _mm512_add_epi32(sum[r][p], _mm512_madd_epi16(right[p], _mm512_set1_epi32(left)));
        }
    }
#pragma unroll
    for (size_t r = 0; r < ROWS; r++)
#pragma unroll
        for (size_t p = 0; p < panels; p++) _mm512_storeu_si512(sums + OB_BLOCK_COLUMNS * r + 16 * p, sum[r][p]);
}

AVX512 static void rank1_sums(const char *a, const char *b, size_t b_stride, size_t panels, size_t rows, size_t count,
                              const int32_t *starts, int32_t *sums, int adds) {
    (void)starts;
    for (size_t r = 0; r < rows; r += ROWS) {
        int32_t *output = sums + r * OB_BLOCK_COLUMNS;
        switch (panels) {
        case 4: block_pairs(a + 4 * r, b, b_stride, 4, count, output, adds); break;
        case 3: block_pairs(a + 4 * r, b, b_stride, 3, count, output, adds); break;
        case 2: block_pairs(a + 4 * r, b, b_stride, 2, count, output, adds); break;
        default: block_pairs(a + 4 * r, b, b_stride, 1, count, output, adds); break;
        }
    }
}

// Rank-1 with AMX

/// Packs tiles. A tile's rows are elements on the left side and quads on the right side. So a panel of a's is 16 rows of `quads` quads, and a panel
/// of b's is `quads` rows, as in the other variants.
AMX static void pack_tiles(const int8_t *vectors, size_t stride, size_t width, const int8_t *q, size_t quad, size_t quads,
                           void *packed) {
    const __m512i rows = _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                                            _mm512_set1_epi32((int32_t)(4 * quads)));
    for (size_t start = 0; start < width; start += 64) {
        __m512i out[4];
        quads_of_64(vectors, stride, start, q, 0, out);
        for (size_t p = 0; p < 4 && start + 16 * p < width; p++) {
            char *panel = (char *)packed + (start / 16 + p) * quads * 64;
            if (q) _mm512_i32scatter_epi32(panel + 4 * quad, rows, out[p], 1);
            else _mm512_storeu_si512(panel + 64 * quad, out[p]);
        }
    }
}

/// Configures the tiles: 0 to 3 for sums, 4 (a) and 5 (b) for whole tiles of quads, 6 and 7 for the remaining quads.
AMX static void rank1_begin_amx(size_t quads) {
    ob_tile_shapes shapes = {0};
    for (int tile = 0; tile < 6; tile++) ob_shape_tile(&shapes, tile, OB_TILE_ROWS, OB_TILE_COLUMN_BYTES);
    if (quads % OB_TILE_ROWS) {
        ob_shape_tile(&shapes, 6, OB_TILE_ROWS, 4 * (quads % OB_TILE_ROWS));
        ob_shape_tile(&shapes, 7, quads % OB_TILE_ROWS, OB_TILE_COLUMN_BYTES);
    }
    _tile_loadconfig(&shapes);
}

AMX static void rank1_end_amx(void) { _tile_release(); }

AMX static inline __attribute__((always_inline)) void sum_tiles(const char *a, const char *b, size_t b_stride, size_t panels,
                                                                size_t count, int32_t *sums, int adds) {
    const size_t a_stride = b_stride / OB_PANEL, stride = OB_BLOCK_COLUMNS * sizeof *sums;
    if (adds) {
        _tile_loadd(0, sums, stride);
        if (panels > 1) _tile_loadd(1, sums + 16, stride);
        if (panels > 2) _tile_loadd(2, sums + 32, stride);
        if (panels > 3) _tile_loadd(3, sums + 48, stride);
    } else {
        _tile_zero(0);
        if (panels > 1) _tile_zero(1);
        if (panels > 2) _tile_zero(2);
        if (panels > 3) _tile_zero(3);
    }
#define ADD_PANEL(p, left, right)                                  \
    if (panels > p) {                                              \
        _tile_loadd(right, b + p * b_stride + 64 * g, 64);         \
        _tile_dpbssd(p, left, right);                              \
    }
    size_t g = 0;
    for (; g + OB_TILE_ROWS <= count; g += OB_TILE_ROWS) {
        _tile_loadd(4, a + 4 * g, a_stride);
        ADD_PANEL(0, 4, 5)
        ADD_PANEL(1, 4, 5)
        ADD_PANEL(2, 4, 5)
        ADD_PANEL(3, 4, 5)
    }
    if (g < count) {
        _tile_loadd(6, a + 4 * g, a_stride);
        ADD_PANEL(0, 6, 7)
        ADD_PANEL(1, 6, 7)
        ADD_PANEL(2, 6, 7)
        ADD_PANEL(3, 6, 7)
    }
#undef ADD_PANEL
    _tile_stored(0, sums, stride);
    if (panels > 1) _tile_stored(1, sums + 16, stride);
    if (panels > 2) _tile_stored(2, sums + 32, stride);
    if (panels > 3) _tile_stored(3, sums + 48, stride);
}

AMX static void rank1_sums_amx(const char *a, const char *b, size_t b_stride, size_t panels, size_t rows, size_t count,
                               const int32_t *starts, int32_t *sums, int adds) {
    (void)rows, (void)starts;  // a panel of a's always has its 16 rows
    switch (panels) {
    case 4: sum_tiles(a, b, b_stride, 4, count, sums, adds); break;
    case 3: sum_tiles(a, b, b_stride, 3, count, sums, adds); break;
    case 2: sum_tiles(a, b, b_stride, 2, count, sums, adds); break;
    default: sum_tiles(a, b, b_stride, 1, count, sums, adds); break;
    }
}

AVX512 static void to_floats(const int32_t *k, size_t count, float scale, float *values) {
    for (size_t i = 0; i < count; i += 16) {
        __mmask16 here = count - i < 16 ? (__mmask16)((1u << (count - i)) - 1) : 0xFFFF;
        // Fetches one page ahead, which the processor's own prefetcher does not cross: between products k comes from memory.
        _mm_prefetch((const char *)(k + i) + 4096, _MM_HINT_T0);
        __m512 value = _mm512_cvtepi32_ps(_mm512_maskz_loadu_epi32(here, k + i));
        _mm512_mask_storeu_ps(values + i, here, _mm512_mul_ps(value, _mm512_set1_ps(scale)));
    }
}

AVX512 static void add_signed(const int32_t *values, const int8_t *signs, size_t count, int32_t *sums) {
    generic_add_signed(values, signs, count, sums);
}

AVX512 static void hadamard(int32_t *values, uint32_t log_size) { generic_hadamard(values, log_size); }

AVX512 static void hadamard_doubles(double *values, uint32_t log_size) { generic_hadamard_doubles(values, log_size); }

static const ob_rank1 rank1 = {.quad_bytes = 128, .a_quad_bytes = 128, .pack = ob_avx2_pack, .sums = rank1_sums};

static const ob_rank1 rank1_vnni = {
    .quad_bytes = 64,
    .a_quad_bytes = 64,
    .pack = pack_bytes,
    .starts = rank1_starts_vnni,
    .sums = rank1_sums_vnni,
    .step = rank1_step_vnni,
    .ahead_quads = AHEAD_QUADS,
};

static const ob_rank1 rank1_amx = {
    .quad_bytes = 64,
    .a_quad_bytes = 4,
    .pack = pack_tiles,
    .begin = rank1_begin_amx,
    .sums = rank1_sums_amx,
    .end = rank1_end_amx,
};

const ob_kernels ob_avx512 = {
    .name = "avx512",
    .words = words,
    .fused_words = fused_words,
    .expand = expand,
    .look_up = look_up,
    .damp = damp,
    .sum_signs = sum_signs,
    .step_signs = step_signs,
    .sum_gaussians = sum_gaussians,
    .step_shift = step_shift,
    .rank1 = &rank1,
    .to_floats = to_floats,
    .add_signed = add_signed,
    .hadamard = hadamard,
    .hadamard_doubles = hadamard_doubles,
};

const ob_kernels ob_avx512vnni = {
    .name = "avx512vnni",
    .words = words,
    .fused_words = fused_words,
    .expand = expand,
    .look_up = look_up,
    .damp = damp_vnni,
    .sum_signs = sum_signs,
    .step_signs = step_signs_vnni,
    .sum_gaussians = sum_gaussians,
    .step_shift = step_shift,
    .rank1 = &rank1_vnni,
    .to_floats = to_floats,
    .add_signed = add_signed,
    .hadamard = hadamard,
    .hadamard_doubles = hadamard_doubles,
};

const ob_kernels ob_avx512vbmi = {
    .name = "avx512vbmi",
    .words = words,
    .fused_words = fused_words,
    .expand = expand,
    .look_up = look_up_vbmi,
    .damp = damp_vnni,
    .sum_signs = sum_signs,
    .step_signs = step_signs_vnni,
    .sum_gaussians = sum_gaussians_vbmi,
    .step_shift = step_shift,
    .rank1 = &rank1_vnni,
    .to_floats = to_floats,
    .add_signed = add_signed,
    .hadamard = hadamard,
    .hadamard_doubles = hadamard_doubles,
};

const ob_kernels ob_amx = {
    .name = "amx",
    .words = words,
    .fused_words = fused_words,
    .expand = expand,
    .look_up = look_up_vbmi,
    .damp = damp_vnni,
    .sum_signs = sum_signs,
    .step_signs = step_signs_vnni,
    .sum_gaussians = sum_gaussians_vbmi,
    .step_shift = step_shift,
    .rank1 = &rank1_vnni,
    .long_rank1 = &rank1_amx,
    .to_floats = to_floats,
    .add_signed = add_signed,
    .hadamard = hadamard,
    .hadamard_doubles = hadamard_doubles,
};
#else
typedef int ob_no_avx512_here;
#endif
