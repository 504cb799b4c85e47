// AArch64: NEON, which every such processor has, and a variant that adds the dot products of Armv8.2.
#if defined(__aarch64__)
#include <arm_neon.h>
#include <string.h>
#include "generic.h"

#define DOT __attribute__((target("arch=armv8.2-a+dotprod")))

// Random bits: four blocks at a time.

static inline void tile_words(const uint32_t key[2], uint32_t stream, uint32_t sample, uint32_t machine, uint32_t tile,
                              uint32_t *words) {
    const uint32x2_t m0 = vdup_n_u32(0xD2511F53), m1 = vdup_n_u32(0xCD9E8D57);
    const uint32_t first[4] = {0, 1, 2, 3};
    for (uint32_t c = 0; c < 16; c += 4) {
        uint32x4_t c0 = vaddq_u32(vdupq_n_u32(16 * tile + c), vld1q_u32(first));
        uint32x4_t c1 = vdupq_n_u32(stream), c2 = vdupq_n_u32(sample), c3 = vdupq_n_u32(machine);
        uint32_t k0 = key[0], k1 = key[1];
        for (int round = 0; round < 10; round++) {
            uint32x4_t p0l = vreinterpretq_u32_u64(vmull_u32(vget_low_u32(c0), m0));
            uint32x4_t p0h = vreinterpretq_u32_u64(vmull_u32(vget_high_u32(c0), m0));
            uint32x4_t p1l = vreinterpretq_u32_u64(vmull_u32(vget_low_u32(c2), m1));
            uint32x4_t p1h = vreinterpretq_u32_u64(vmull_u32(vget_high_u32(c2), m1));
            c0 = veorq_u32(veorq_u32(vuzp2q_u32(p1l, p1h), c1), vdupq_n_u32(k0));
            c2 = veorq_u32(veorq_u32(vuzp2q_u32(p0l, p0h), c3), vdupq_n_u32(k1));
            c1 = vuzp1q_u32(p1l, p1h);
            c3 = vuzp1q_u32(p0l, p0h);
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        vst1q_u32(words + c, c0);
        vst1q_u32(words + 16 + c, c1);
        vst1q_u32(words + 32 + c, c2);
        vst1q_u32(words + 48 + c, c3);
    }
}

static void words(const ob_vector *vector, uint32_t first_tile, size_t tiles, uint32_t *output) {
    for (size_t i = 0; i < tiles; i++)
        tile_words(vector->key, vector->stream, vector->sample, vector->machine, first_tile + (uint32_t)i,
                   output + OB_TILE_WORDS * i);
}

static void fused_words(const uint32_t key[2], uint32_t stream, const ob_direction *directions, size_t count,
                        uint32_t tile, uint32_t *output, ob_ahead *ahead) {
    (void)ahead;
    for (size_t i = 0; i < count; i++)
        tile_words(key, stream, directions[i].sample, directions[i].machine, tile, output + OB_TILE_WORDS * i);
}

/// 16 bits as bytes: 255 for a bit that is 1, else 0.
static inline uint8x16_t bytes_of_bits(uint32_t bits) {
    const uint8_t each[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint8x16_t copies = vcombine_u8(vdup_n_u8((uint8_t)bits), vdup_n_u8((uint8_t)(bits >> 8)));
    return vtstq_u8(copies, vld1q_u8(each));
}

static void expand(const uint32_t *input, size_t count, int8_t *signs) {
    const int8x16_t plus = vdupq_n_s8(1), minus = vdupq_n_s8(-1);
    for (size_t i = 0; i < count; i++) {
        vst1q_s8(signs + 32 * i, vbslq_s8(bytes_of_bits(input[i]), plus, minus));
        vst1q_s8(signs + 32 * i + 16, vbslq_s8(bytes_of_bits(input[i] >> 16), plus, minus));
    }
}

/// The table in four parts of 64 entries. An index outside a part leaves the result unchanged.
typedef struct {
    uint8x16x4_t parts[4];
} table_256;

static inline table_256 load_table(void) {
    table_256 table;
    for (int p = 0; p < 4; p++)
        for (int j = 0; j < 4; j++) table.parts[p].val[j] = vld1q_u8((const uint8_t *)ob_gaussian_table + 64 * p + 16 * j);
    return table;
}

static inline int8x16_t look_up_16(const table_256 *table, uint8x16_t bytes) {
    const uint8x16_t part = vdupq_n_u8(64);
    uint8x16_t result = vqtbl4q_u8(table->parts[0], bytes);
    bytes = vsubq_u8(bytes, part);
    result = vqtbx4q_u8(result, table->parts[1], bytes);
    bytes = vsubq_u8(bytes, part);
    result = vqtbx4q_u8(result, table->parts[2], bytes);
    bytes = vsubq_u8(bytes, part);
    return vreinterpretq_s8_u8(vqtbx4q_u8(result, table->parts[3], bytes));
}

static void look_up(const uint8_t *bytes, size_t count, int8_t *output) {
    const table_256 table = load_table();
    for (size_t i = 0; i < count; i += 16) vst1q_s8(output + i, look_up_16(&table, vld1q_u8(bytes + i)));
}

static void damp(const int8_t *signs, const int16_t *basis, size_t components, size_t width, int8_t *output) {
    generic_damp(signs, basis, components, width, output);
}

// Dense sums

static inline void add_eight(int32_t *output, int16x8_t sum) {
    vst1q_s32(output, vaddw_s16(vld1q_s32(output), vget_low_s16(sum)));
    vst1q_s32(output + 4, vaddw_s16(vld1q_s32(output + 4), vget_high_s16(sum)));
}

static void sum_signs(const uint32_t *input, const int32_t *q, size_t count, int32_t *sums) {
    for (int i = 0; i < OB_TILE_WORDS; i += 2) {  // 64 elements: eight registers of 16-bit sums, |Σ| ≤ 64·127
        int16x8_t sum[8];
        for (int j = 0; j < 8; j++) sum[j] = vdupq_n_s16(0);
        for (size_t d = 0; d < count; d++) {
            const int8x16_t plus = vdupq_n_s8((int8_t)q[d]), minus = vdupq_n_s8((int8_t)-q[d]);
            for (int j = 0; j < 4; j++) {
                uint32_t bits = input[OB_TILE_WORDS * d + i + j / 2] >> (16 * (j & 1));
                int8x16_t value = vbslq_s8(bytes_of_bits(bits), plus, minus);
                sum[2 * j] = vaddw_s8(sum[2 * j], vget_low_s8(value));
                sum[2 * j + 1] = vaddw_high_s8(sum[2 * j + 1], value);
            }
        }
        for (int j = 0; j < 8; j++) add_eight(sums + 32 * i + 8 * j, sum[j]);
    }
}

static void sum_gaussians(const uint32_t *input, const int32_t *q, size_t count, int32_t *sums) {
    const table_256 table = load_table();
    for (int i = 0; i < OB_TILE_WORDS; i += 4) {  // 16 elements
        int32x4_t sum[4];
        for (int j = 0; j < 4; j++) sum[j] = vld1q_s32(sums + 4 * i + 4 * j);
        for (size_t d = 0; d < count; d++) {
            int8x16_t z = look_up_16(&table, vreinterpretq_u8_u32(vld1q_u32(input + OB_TILE_WORDS * d + i)));
            const int8x16_t byte = vdupq_n_s8((int8_t)q[d]);
            int16x8_t low = vmull_s8(vget_low_s8(z), vget_low_s8(byte)), high = vmull_high_s8(z, byte);
            sum[0] = vaddw_s16(sum[0], vget_low_s16(low));
            sum[1] = vaddw_high_s16(sum[1], low);
            sum[2] = vaddw_s16(sum[2], vget_low_s16(high));
            sum[3] = vaddw_high_s16(sum[3], high);
        }
        for (int j = 0; j < 4; j++) vst1q_s32(sums + 4 * i + 4 * j, sum[j]);
    }
}

static void step_shift(int32_t *k, size_t k_stride, const int32_t *sums, size_t sums_stride, size_t rows, size_t count,
                       const ob_shift *shift) {
    // The multiplier is below 2^16 and the sums are signed. vrshl by −t adds the half and rounds upwards, exactly.
    const int32x2_t m = vdup_n_s32((int32_t)shift->multiplier);
    const int64x2_t by = vdupq_n_s64(-(int64_t)shift->t);
    const int32x4_t flip = vdupq_n_s32(shift->sign);
    for (size_t r = 0; r < rows; r++, k += k_stride, sums += sums_stride) {
        size_t i = 0;
        for (; i + 4 <= count; i += 4) {
            int32x4_t sum = vld1q_s32(sums + i);
            int64x2_t low = vrshlq_s64(vmull_s32(vget_low_s32(sum), m), by);
            int64x2_t high = vrshlq_s64(vmull_s32(vget_high_s32(sum), m), by);
            int32x4_t delta = vcombine_s32(vmovn_s64(low), vmovn_s64(high));
            delta = vsubq_s32(veorq_s32(delta, flip), flip);
            vst1q_s32(k + i, vsubq_s32(vld1q_s32(k + i), delta));
        }
        generic_step_shift(k + i, sums + i, count - i, shift);
    }
}

// Rank-1: quads of bytes.

static void pack(const int8_t *vectors, size_t stride, size_t width, const int8_t *q, size_t quad, size_t quads,
                 void *packed) {
    int8_t *output = (int8_t *)packed + 64 * quad;
    for (size_t start = 0; start < width; start += OB_PANEL) {
        int8x16x4_t v;
        for (size_t i = 0; i < 4; i++) {
            v.val[i] = vld1q_s8(vectors + i * stride + start);
            if (q) v.val[i] = vmulq_s8(v.val[i], vdupq_n_s8(q[i]));
        }
        vst4q_s8(output + start / OB_PANEL * quads * 64, v);
    }
}

/// Starts the sums over four rows and one panel: from `sums` if `adds`, otherwise from 0.
#define LOAD_SUMS                                                                                              \
    for (size_t i = 0; i < 4; i++)                                                                             \
        for (size_t j = 0; j < 4; j++)                                                                         \
            sum[i][j] = adds ? vld1q_s32(output + i * OB_BLOCK_COLUMNS + 4 * j) : vdupq_n_s32(0)
#define STORE_SUMS                                                                                             \
    for (size_t i = 0; i < 4; i++)                                                                             \
        for (size_t j = 0; j < 4; j++) vst1q_s32(output + i * OB_BLOCK_COLUMNS + 4 * j, sum[i][j])

DOT static void rank1_sums_dot(const char *a, const char *b, size_t b_stride, size_t panels, size_t rows, size_t count,
                               const int32_t *starts, int32_t *sums, int adds) {
    (void)starts;
    for (size_t r = 0; r < rows; r += 4)
        for (size_t p = 0; p < panels; p++) {
            int32_t *output = sums + r * OB_BLOCK_COLUMNS + p * OB_PANEL;
            int32x4_t sum[4][4];
            LOAD_SUMS;
            const int8_t *left = (const int8_t *)a + 4 * r, *right = (const int8_t *)b + p * b_stride;
            for (size_t g = 0; g < count; g++, left += 64, right += 64) {
                int8x16_t rows4 = vld1q_s8(left);  // a quad of four rows
                for (size_t j = 0; j < 4; j++) {
                    int8x16_t columns4 = vld1q_s8(right + 16 * j);
                    sum[0][j] = vdotq_laneq_s32(sum[0][j], columns4, rows4, 0);
                    sum[1][j] = vdotq_laneq_s32(sum[1][j], columns4, rows4, 1);
                    sum[2][j] = vdotq_laneq_s32(sum[2][j], columns4, rows4, 2);
                    sum[3][j] = vdotq_laneq_s32(sum[3][j], columns4, rows4, 3);
                }
            }
            STORE_SUMS;
        }
}

static void rank1_sums(const char *a, const char *b, size_t b_stride, size_t panels, size_t rows, size_t count,
                       const int32_t *starts, int32_t *sums, int adds) {
    (void)starts;
    for (size_t r = 0; r < rows; r++)
        for (size_t p = 0; p < panels; p++) {
            int32_t *output = sums + r * OB_BLOCK_COLUMNS + p * OB_PANEL;
            int32x4_t pairs[8];  // the two halves of each column's quad, which are added at the end
            for (size_t j = 0; j < 8; j++) pairs[j] = vdupq_n_s32(0);
            const int8_t *left = (const int8_t *)a + 4 * r, *right = (const int8_t *)b + p * b_stride;
            for (size_t g = 0; g < count; g++, left += 64, right += 64) {
                int32_t quad;
                memcpy(&quad, left, 4);
                const int8x16_t row = vreinterpretq_s8_s32(vdupq_n_s32(quad));
                for (size_t j = 0; j < 4; j++) {
                    int8x16_t columns4 = vld1q_s8(right + 16 * j);
                    pairs[2 * j] = vpadalq_s16(pairs[2 * j], vmull_s8(vget_low_s8(columns4), vget_low_s8(row)));
                    pairs[2 * j + 1] = vpadalq_s16(pairs[2 * j + 1], vmull_high_s8(columns4, row));
                }
            }
            for (size_t j = 0; j < 4; j++) {
                int32x4_t total = vpaddq_s32(pairs[2 * j], pairs[2 * j + 1]);
                if (adds) total = vaddq_s32(total, vld1q_s32(output + 4 * j));
                vst1q_s32(output + 4 * j, total);
            }
        }
}

static void to_floats(const int32_t *k, size_t count, float scale, float *values) {
    generic_to_floats(k, count, scale, values);
}

static void add_signed(const int32_t *values, const int8_t *signs, size_t count, int32_t *sums) {
    generic_add_signed(values, signs, count, sums);
}

static void hadamard(int32_t *values, uint32_t log_size) { generic_hadamard(values, log_size); }

static void hadamard_doubles(double *values, uint32_t log_size) { generic_hadamard_doubles(values, log_size); }

static const ob_rank1 rank1 = {.quad_bytes = 64, .a_quad_bytes = 64, .pack = pack, .sums = rank1_sums};
static const ob_rank1 rank1_dot = {.quad_bytes = 64, .a_quad_bytes = 64, .pack = pack, .sums = rank1_sums_dot};

#define SHARED                                                                                                 \
    .words = words, .fused_words = fused_words, .expand = expand, .look_up = look_up, .damp = damp,          \
    .sum_signs = sum_signs, .sum_gaussians = sum_gaussians, .step_shift = step_shift, .to_floats = to_floats, \
    .add_signed = add_signed, .hadamard = hadamard, .hadamard_doubles = hadamard_doubles

const ob_kernels ob_neon = {.name = "neon", SHARED, .rank1 = &rank1};
const ob_kernels ob_neondot = {.name = "neondot", SHARED, .rank1 = &rank1_dot};
#else
typedef int ob_no_neon_here;
#endif
