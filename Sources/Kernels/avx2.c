#if defined(__x86_64__)
#include <string.h>
#include "generic.h"
#include "x86.h"

#define AVX2 __attribute__((target("avx2")))

/// Makes one tile, in four groups of four 64-bit lanes. A word is in the low half of a lane (see avx512.c).
AVX2 static inline void tile_words(const ob_schedule *schedule, uint32_t stream, uint32_t sample, uint32_t machine,
                                   uint32_t tile, uint32_t *words) {
    const __m256i m0 = _mm256_set1_epi64x(0xD2511F53), m1 = _mm256_set1_epi64x(0xCD9E8D57);
    for (uint32_t half = 0; half < 2; half++) {  // blocks 0…7, then 8…15; even ones in [0], odd ones in [1]
        __m256i c0[2], c1[2], c2[2], c3[2];
        c0[0] = _mm256_add_epi64(_mm256_set1_epi64x((uint32_t)(16 * tile + 8 * half)), _mm256_set_epi64x(6, 4, 2, 0));
        c0[1] = _mm256_add_epi64(c0[0], _mm256_set1_epi64x(1));
        c1[0] = c1[1] = _mm256_set1_epi32((int)stream);
        c2[0] = c2[1] = _mm256_set1_epi32((int)sample);
        c3[0] = c3[1] = _mm256_set1_epi32((int)machine);
#pragma unroll
        for (int round = 0; round < 10; round++) {
            __m256i k0 = _mm256_set1_epi32((int)schedule->k0[round]), k1 = _mm256_set1_epi32((int)schedule->k1[round]);
#pragma unroll
            for (int h = 0; h < 2; h++) {
                __m256i p0 = _mm256_mul_epu32(c0[h], m0), p1 = _mm256_mul_epu32(c2[h], m1);
                c0[h] = _mm256_xor_si256(_mm256_srli_epi64(p1, 32), _mm256_xor_si256(c1[h], k0));
                c2[h] = _mm256_xor_si256(_mm256_srli_epi64(p0, 32), _mm256_xor_si256(c3[h], k1));
                c1[h] = p1;
                c3[h] = p0;
            }
        }
        const __m256i *in[4] = {c0, c1, c2, c3};
#pragma unroll
        for (int t = 0; t < 4; t++)
            _mm256_storeu_si256((__m256i *)(words + 16 * t + 8 * half),
                                _mm256_blend_epi32(in[t][0], _mm256_slli_epi64(in[t][1], 32), 0xAA));
    }
}

AVX2 static void words(const ob_vector *vector, uint32_t first_tile, size_t tiles, uint32_t *output) {
    ob_schedule schedule = ob_make_schedule(vector->key);
    for (size_t i = 0; i < tiles; i++)
        tile_words(&schedule, vector->stream, vector->sample, vector->machine, first_tile + (uint32_t)i,
                   output + OB_TILE_WORDS * i);
}

AVX2 static void fused_words(const uint32_t key[2], uint32_t stream, const ob_direction *directions, size_t count,
                             uint32_t tile, uint32_t *output, ob_ahead *ahead) {
    ob_schedule schedule = ob_make_schedule(key);
    for (size_t i = 0; i < count; i++) {
        ob_fetch(ahead, OB_LINES_OF_WORDS);
        tile_words(&schedule, stream, directions[i].sample, directions[i].machine, tile, output + OB_TILE_WORDS * i);
    }
}

/// 32 bits as bytes: −1 for a bit that is 1, else 0.
AVX2 static inline __m256i bytes_of_bits(uint32_t bits) {
    const __m256i spread = _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
    const __m256i select = _mm256_set1_epi64x((int64_t)0x8040201008040201);
    __m256i copies = _mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), spread);
    return _mm256_cmpeq_epi8(_mm256_and_si256(copies, select), select);
}

AVX2 static void expand(const uint32_t *input, size_t count, int8_t *signs) {
    for (size_t i = 0; i < count; i++) {
        __m256i set = bytes_of_bits(input[i]);  // −1 → 1, 0 → −1
        __m256i sign = _mm256_sub_epi8(_mm256_set1_epi8(-1), _mm256_add_epi8(set, set));
        _mm256_storeu_si256((__m256i *)(signs + 32 * i), sign);
    }
}

/// Looks 32 bytes up in the table. The table is antisymmetric, T[255 − i] = −T[i], so eight shuffles of its upper half are enough.
AVX2 static inline __m256i look_up_32(__m256i bytes) {
    __m256i lower = _mm256_cmpgt_epi8(bytes, _mm256_set1_epi8(-1));  // 0…127: these are mirrored
    __m256i index = _mm256_xor_si256(bytes, lower);
    __m256i result = _mm256_setzero_si256();
#pragma unroll
    for (int j = 0; j < 8; j++) {
        __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(ob_gaussian_table + 128 + 16 * j)));
        // Bit 7 stays clear only if the entry is in this table. Otherwise a shuffle gives 0.
        __m256i local = _mm256_adds_epu8(_mm256_sub_epi8(index, _mm256_set1_epi8((char)(128 + 16 * j))), _mm256_set1_epi8(0x70));
        result = _mm256_or_si256(result, _mm256_shuffle_epi8(table, local));
    }
    return _mm256_sub_epi8(_mm256_xor_si256(result, lower), lower);
}

AVX2 static void look_up(const uint8_t *bytes, size_t count, int8_t *output) {
    for (size_t i = 0; i < count; i += 32)
        _mm256_storeu_si256((__m256i *)(output + i), look_up_32(_mm256_loadu_si256((const __m256i *)(bytes + i))));
}

AVX2 static void damp(const int8_t *signs, const int16_t *basis, size_t components, size_t width, int8_t *output) {
    generic_damp(signs, basis, components, width, output);
}

/// Σ q·z by signs in 8-bit lanes. vpmaddubsw takes directions in pairs, as (z, z')·(q, q') with |z| = 1 and q signed by z. The sums of four words
/// have 16 bits, |Σ| ≤ 64·127. For word w, lane l of sum[2·w] has elements 16·l … + 7, and lane l of sum[2·w + 1] has the eight that follow.
AVX2 static inline __attribute__((always_inline)) void sum_four_words(const uint32_t *input, const int32_t *q, size_t count,
                                                                      __m256i sum[8], ob_ahead *ahead) {
    const __m256i ones = _mm256_set1_epi8(1);
#pragma unroll
    for (int j = 0; j < 8; j++) sum[j] = _mm256_setzero_si256();
    for (size_t d = 0; d < count; d += 2) {
        size_t other = d + 1 < count ? d + 1 : d;
        const __m256i first = _mm256_set1_epi8((char)q[d]), second = _mm256_set1_epi8(other == d ? 0 : (char)q[other]);
        if (ahead) ob_fetch(ahead, 1);
#pragma unroll
        for (int w = 0; w < 4; w++) {
            // sign(q, −1 or 0 | 1) takes −q where the bit is 1 and q where it is 0, which is the wrong way round. So the total changes its sign.
            __m256i a = _mm256_sign_epi8(first, _mm256_or_si256(bytes_of_bits(input[OB_TILE_WORDS * d + w]), ones));
            __m256i b = _mm256_sign_epi8(second, _mm256_or_si256(bytes_of_bits(input[OB_TILE_WORDS * other + w]), ones));
            __m256i low = _mm256_maddubs_epi16(ones, _mm256_unpacklo_epi8(a, b));
            __m256i high = _mm256_maddubs_epi16(ones, _mm256_unpackhi_epi8(a, b));
            sum[2 * w] = _mm256_sub_epi16(sum[2 * w], low);
            sum[2 * w + 1] = _mm256_sub_epi16(sum[2 * w + 1], high);
        }
    }
}

AVX2 static void sum_signs(const uint32_t *input, const int32_t *q, size_t count, int32_t *sums) {
    for (int i = 0; i < OB_TILE_WORDS; i += 4) {
        __m256i sum[8];
        sum_four_words(input + i, q, count, sum, 0);
#pragma unroll
        for (int w = 0; w < 4; w++) {
            const __m128i parts[4] = {
                _mm256_castsi256_si128(sum[2 * w]), _mm256_castsi256_si128(sum[2 * w + 1]),
                _mm256_extracti128_si256(sum[2 * w], 1), _mm256_extracti128_si256(sum[2 * w + 1], 1),
            };
            for (int p = 0; p < 4; p++) {
                __m256i *output = (__m256i *)(sums + 32 * (i + w) + 8 * p);
                _mm256_storeu_si256(output, _mm256_add_epi32(_mm256_loadu_si256(output), _mm256_cvtepi16_epi32(parts[p])));
            }
        }
    }
}

AVX2 static void sum_gaussians(const uint32_t *input, const int32_t *q, size_t count, int32_t *sums) {
    for (int t = 0; t < 8; t++) {  // 32 elements
        __m256i sum[4];
#pragma unroll
        for (int j = 0; j < 4; j++) sum[j] = _mm256_setzero_si256();
        for (size_t i = 0; i < count; i += 2) {
            int pair = i + 1 < count;
            const __m256i factors = _mm256_set1_epi32((int32_t)((uint32_t)(q[i] & 0xFFFF) | (uint32_t)(pair ? q[i + 1] : 0) << 16));
            __m256i first = look_up_32(_mm256_loadu_si256((const __m256i *)(input + OB_TILE_WORDS * i + 8 * t)));
            __m256i second = look_up_32(_mm256_loadu_si256((const __m256i *)(input + OB_TILE_WORDS * (i + pair) + 8 * t)));
            __m256i low = _mm256_unpacklo_epi8(first, second), high = _mm256_unpackhi_epi8(first, second);
            __m256i parts[4] = {
                _mm256_unpacklo_epi8(_mm256_setzero_si256(), low), _mm256_unpackhi_epi8(_mm256_setzero_si256(), low),
                _mm256_unpacklo_epi8(_mm256_setzero_si256(), high), _mm256_unpackhi_epi8(_mm256_setzero_si256(), high),
            };
#pragma unroll
            for (int j = 0; j < 4; j++)
                sum[j] = _mm256_add_epi32(sum[j], _mm256_madd_epi16(_mm256_srai_epi16(parts[j], 8), factors));
        }
        for (int j = 0; j < 4; j++) {  // lane l of part j: elements 16·l + 4·j … + 3
            __m128i *low = (__m128i *)(sums + 32 * t + 4 * j), *high = (__m128i *)(sums + 32 * t + 16 + 4 * j);
            _mm_storeu_si128(low, _mm_add_epi32(_mm_loadu_si128(low), _mm256_castsi256_si128(sum[j])));
            _mm_storeu_si128(high, _mm_add_epi32(_mm_loadu_si128(high), _mm256_extracti128_si256(sum[j], 1)));
        }
    }
}

// Steps

/// The factors of a step, from its M, t and sign, in lanes of 64 bits.
typedef struct {
    __m256i multiplier, half, flip, rest;
    __m128i even, odd;
} step_factors;

AVX2 static inline step_factors make_step(const ob_shift *shift) {
    const int32_t t = shift->t, sign = shift->sign;
    // There is no 64-bit arithmetic shift. With 2^62 added the sum is positive. The low 32 bits of what a logical shift adds are subtracted again,
    // together with the 1 of −x = ~x + 1.
    int32_t excess = (int32_t)(((int64_t)1 << 62) >> t);
    return (step_factors){
        .multiplier = _mm256_set1_epi64x(shift->multiplier),
        .half = _mm256_set1_epi64x(((int64_t)1 << (t - 1)) + ((int64_t)1 << 62)),
        .flip = _mm256_set1_epi32(sign),
        .rest = _mm256_set1_epi32(sign ? -1 - excess : excess),
        .even = _mm_cvtsi32_si128(t),
        .odd = _mm_cvtsi32_si128(t < 32 ? 32 - t : t - 32),
    };
}

/// Returns eight elements after their step. `is_long`: t ≥ 32.
AVX2 static inline __m256i stepped(__m256i old, __m256i sum, const step_factors *f, int is_long) {
    __m256i even = _mm256_add_epi64(_mm256_mul_epi32(sum, f->multiplier), f->half);
    __m256i odd = _mm256_add_epi64(_mm256_mul_epi32(_mm256_srli_epi64(sum, 32), f->multiplier), f->half);
    // Takes the 32 bits from t on: into the low half of an even lane, and into the high half of an odd one.
    even = _mm256_srl_epi64(even, f->even);
    odd = is_long ? _mm256_srl_epi64(odd, f->odd) : _mm256_sll_epi64(odd, f->odd);
    __m256i delta = _mm256_xor_si256(_mm256_blend_epi32(even, odd, 0xAA), f->flip);
    return _mm256_sub_epi32(_mm256_add_epi32(old, f->rest), delta);
}

/// The factors of a step in lanes of 32 bits.
typedef struct {
    __m256i multipliers, half, t, low_twice;
} narrow_factors;

AVX2 static inline narrow_factors make_narrow(const ob_shift *shift) {
    __m256i low_twice = _mm256_set_epi64x(0x0D0C0D0C09080908, 0x0504050401000100, 0x0D0C0D0C09080908, 0x0504050401000100);
    __asm__("" : "+x"(low_twice));  // hides the value from the compiler, which would make two shuffles of one
    return (narrow_factors){
        .multipliers = _mm256_set1_epi32(ob_halves(shift->multiplier)),
        .half = _mm256_set1_epi32((int32_t)((int64_t)1 << (shift->t - 1))),
        .t = _mm256_set1_epi32(shift->t),  // a vector, because a shift by one register for all lanes would be two instructions
        .low_twice = low_twice,
    };
}

/// Returns elements after their step. `pairs` has the low word of each sum twice; it is multiplied by two words whose sum is M.
AVX2 static inline __m256i stepped_pairs(__m256i old, __m256i pairs, const narrow_factors *f) {
    __m256i product = _mm256_madd_epi16(pairs, f->multipliers);
    __m256i delta = _mm256_srav_epi32(_mm256_add_epi32(product, f->half), f->t);
    return _mm256_sub_epi32(old, delta);
}

AVX2 static inline __m256i stepped_narrow(__m256i old, __m256i sum, const narrow_factors *f) {
    return stepped_pairs(old, _mm256_shuffle_epi8(sum, f->low_twice), f);
}

AVX2 static void step_signs(const uint32_t *input, const int32_t *q, size_t count, int32_t *k, const ob_shift *shift, ob_ahead *ahead) {
    const narrow_factors narrow = make_narrow(shift);
    for (int i = 0; i < OB_TILE_WORDS; i += 4) {
        __m256i sum[8];
        sum_four_words(input + i, q, count, sum, ahead);
#pragma unroll
        for (int j = 0; j < 8; j++) {  // elements 0 … 7 and 16 … 23 of a word, then those between and after them
            __m256i low = _mm256_unpacklo_epi16(sum[j], sum[j]), high = _mm256_unpackhi_epi16(sum[j], sum[j]);
            __m256i *first = (__m256i *)(k + 32 * (i + j / 2) + 8 * (j % 2)), *second = first + 2;
            _mm256_storeu_si256(first, stepped_pairs(_mm256_loadu_si256(first), _mm256_permute2x128_si256(low, high, 0x20), &narrow));
            _mm256_storeu_si256(second, stepped_pairs(_mm256_loadu_si256(second), _mm256_permute2x128_si256(low, high, 0x31), &narrow));
        }
    }
}

AVX2 static void step_shift(int32_t *k, size_t k_stride, const int32_t *sums, size_t sums_stride, size_t rows,
                            size_t count, const ob_shift *shift) {
    const step_factors factors = make_step(shift);
    const narrow_factors narrow = make_narrow(shift);
    const int is_long = shift->t >= 32;
    for (size_t r = 0; r < rows; r++, k += k_stride, sums += sums_stride) {
        size_t i = 0;
        for (; i + 8 <= count; i += 8) {
            __m256i sum = _mm256_loadu_si256((const __m256i *)(sums + i)), old = _mm256_loadu_si256((const __m256i *)(k + i));
            __m256i new = shift->is_narrow ? stepped_narrow(old, sum, &narrow)
                : is_long                  ? stepped(old, sum, &factors, 1)
                                           : stepped(old, sum, &factors, 0);
            _mm256_storeu_si256((__m256i *)(k + i), new);
        }
        generic_step_shift(k + i, sums + i, count - i, shift);
    }
}

AVX2 void ob_avx2_pack(const int8_t *vectors, size_t stride, size_t width, const int8_t *q, size_t quad, size_t quads,
                       void *packed) {
    char *output = (char *)packed + 128 * quad;
    for (size_t start = 0; start < width; start += OB_PANEL) {
        char *panel = output + start / OB_PANEL * quads * 128;
        for (size_t pair = 0; pair < 2; pair++) {
            __m256i v[2];
            for (size_t i = 0; i < 2; i++) {
                const int8_t *vector = vectors + (2 * pair + i) * stride + start;
                v[i] = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)vector));
                if (q) v[i] = _mm256_mullo_epi16(v[i], _mm256_set1_epi16(q[2 * pair + i]));
            }
            __m256i low = _mm256_unpacklo_epi16(v[0], v[1]), high = _mm256_unpackhi_epi16(v[0], v[1]);
            _mm256_storeu_si256((__m256i *)(panel + 64 * pair), _mm256_permute2x128_si256(low, high, 0x20));
            _mm256_storeu_si256((__m256i *)(panel + 64 * pair + 32), _mm256_permute2x128_si256(low, high, 0x31));
        }
    }
}

/// sum += Σ a·b of four rows and a panel, one pair of directions at a time.
AVX2 static inline __attribute__((always_inline)) void add_pairs(const char *left, const char *right, size_t count, __m256i sum[4][2]) {
    for (size_t g = 0; g < 2 * count; g++, left += 64, right += 64) {
        __m256i low = _mm256_loadu_si256((const __m256i *)right);
        __m256i high = _mm256_loadu_si256((const __m256i *)(right + 32));
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int32_t pair;
            memcpy(&pair, left + 4 * i, 4);
            sum[i][0] = _mm256_add_epi32(sum[i][0], _mm256_madd_epi16(low, _mm256_set1_epi32(pair)));
            sum[i][1] = _mm256_add_epi32(sum[i][1], _mm256_madd_epi16(high, _mm256_set1_epi32(pair)));
        }
    }
}

AVX2 static void rank1_sums(const char *a, const char *b, size_t b_stride, size_t panels, size_t rows, size_t count,
                            const int32_t *starts, int32_t *sums, int adds) {
    (void)starts;
    for (size_t p = 0; p < panels; p++)  // a panel of each side, 8 KiB, stays in L1
        for (size_t r = 0; r < rows; r += 4) {
            __m256i sum[4][2];
            int32_t *output = sums + r * OB_BLOCK_COLUMNS + p * OB_PANEL;
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 2; j++)
                    sum[i][j] = adds ? _mm256_loadu_si256((const __m256i *)(output + i * OB_BLOCK_COLUMNS + 8 * j))
                                     : _mm256_setzero_si256();
            add_pairs(a + 4 * r, b + p * b_stride, count, sum);
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 2; j++)
                    _mm256_storeu_si256((__m256i *)(output + i * OB_BLOCK_COLUMNS + 8 * j), sum[i][j]);
        }
}

AVX2 static inline __attribute__((always_inline)) void rank1_step_tiles(const char *a, const char *b, size_t b_stride,
                                                                        size_t panels, size_t rows, size_t count, const int32_t *sums,
                                                                        int32_t *k, size_t k_stride, const step_factors *factors,
                                                                        int is_long, const narrow_factors *narrow) {
    for (size_t p = 0; p < panels; p++)  // a panel of each side, 8 KiB, stays in L1
        for (size_t r = 0; r < rows; r += 4) {
            __m256i sum[4][2];
#pragma unroll
            for (size_t i = 0; i < 4; i++)
#pragma unroll
                for (size_t j = 0; j < 2; j++)
                    sum[i][j] = sums ? _mm256_loadu_si256((const __m256i *)(sums + (r + i) * OB_BLOCK_COLUMNS + p * OB_PANEL + 8 * j))
                                     : _mm256_setzero_si256();
            add_pairs(a + 4 * r, b + p * b_stride, count, sum);
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    __m256i *element = (__m256i *)(k + (r + i) * k_stride + p * OB_PANEL + 8 * j);
                    __m256i old = _mm256_loadu_si256(element);
                    _mm256_storeu_si256(element, narrow ? stepped_narrow(old, sum[i][j], narrow)
                                                        : stepped(old, sum[i][j], factors, is_long));
                }
        }
}

AVX2 static void rank1_step(const char *a, const char *b, size_t stride, size_t panels, size_t rows, size_t count,
                            const int32_t *starts, size_t panel_starts, const int32_t *sums, int32_t *k, size_t k_stride,
                            const ob_shift *shift) {
    (void)starts, (void)panel_starts;
    const step_factors factors = make_step(shift);
    const narrow_factors narrow = make_narrow(shift);
    for (size_t r = 0; r < rows; r += OB_PANEL, a += stride, k += OB_PANEL * k_stride, sums += sums ? OB_PANEL * OB_BLOCK_COLUMNS : 0) {
        const size_t n = rows - r < OB_PANEL ? rows - r : OB_PANEL;
        if (shift->is_narrow) rank1_step_tiles(a, b, stride, panels, n, count, sums, k, k_stride, 0, 0, &narrow);
        else if (shift->t < 32) rank1_step_tiles(a, b, stride, panels, n, count, sums, k, k_stride, &factors, 0, 0);
        else rank1_step_tiles(a, b, stride, panels, n, count, sums, k, k_stride, &factors, 1, 0);
    }
}

AVX2 static void to_floats(const int32_t *k, size_t count, float scale, float *values) {
    generic_to_floats(k, count, scale, values);
}

AVX2 static void add_signed(const int32_t *values, const int8_t *signs, size_t count, int32_t *sums) {
    generic_add_signed(values, signs, count, sums);
}

AVX2 static void hadamard(int32_t *values, uint32_t log_size) { generic_hadamard(values, log_size); }

AVX2 static void hadamard_doubles(double *values, uint32_t log_size) { generic_hadamard_doubles(values, log_size); }

static const ob_rank1 rank1 = {.quad_bytes = 128, .a_quad_bytes = 128, .pack = ob_avx2_pack, .sums = rank1_sums, .step = rank1_step};

const ob_kernels ob_avx2 = {
    .name = "avx2",
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
#else
typedef int ob_no_avx2_here;
#endif
