// Products in 8 bits with a scale for each block of 32 inputs (quantised.h).
//
// A panel of 16 outputs has one weight_block for each 32 inputs. For each four inputs that holds four bytes of every output: one register of AVX-512,
// two of AVX2, four of NEON.
#include "variants.h"
#include <math.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

enum { BLOCK = OB_QUANTISED_INPUTS, PANEL = OB_QUANTISED_PANEL, QUAD = 4, ROWS_MAX = 6, LIMIT = 127 };

/// 32 values of a row: x = scale·q. `sum` is scale·Σq, by which the minima of weights are multiplied.
typedef struct {
    float scale, sum;
    int8_t q[BLOCK];
} row_block;

/// 32 weights of 16 outputs: w = scales·q + minima. Input i of output o is q[i / 4][o][i % 4].
typedef struct {
    uint8_t q[BLOCK / QUAD][PANEL][QUAD];
    float scales[PANEL], minima[PANEL];
} weight_block;

/// Multiplies `rows` rows by one or two panels: sums[32·r + o] and, if `right` is not null, sums[32·r + 16 + o]. Rows have `blocks` blocks each.
typedef void (*tile_function)(const row_block *x, size_t rows, size_t blocks, const weight_block *left, const weight_block *right, int is_narrow,
                              float *sums);

struct ob_quantised_kernels {
    const char *name;
    /// The largest number of rows of a tile.
    size_t rows;
    tile_function tile;
    void (*quantise_row)(const float *x, size_t inputs, row_block *out);
    void (*quantise_weights)(const float *w, uint8_t *q, float *scale, float *minimum);
    void (*finish)(const float *sums, float *y, size_t count, int adds);
};

#if defined(__x86_64__)
#define AVX2 __attribute__((target("avx2,fma")))
#define VNNI __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma"), min_vector_width(512)))

#define TARGET VNNI
#define NAME(x) vnni_##x
#define LANES 16
#include "quantised_body.h"
#undef TARGET
#undef NAME
#undef LANES

#define TARGET AVX2
#define NAME(x) avx2_##x
#define LANES 8
#include "quantised_body.h"
#undef TARGET
#undef NAME
#undef LANES
#endif

#define TARGET
#define NAME(x) portable_##x
#define LANES 4
#include "quantised_body.h"

// Portable

static void portable_panel(const row_block *x, size_t blocks, const weight_block *w, float *sums) {
    memset(sums, 0, PANEL * sizeof *sums);
    for (size_t b = 0; b < blocks; b++)
        for (size_t o = 0; o < PANEL; o++) {
            int32_t sum = 0;
            for (size_t i = 0; i < BLOCK / QUAD; i++)
                for (size_t j = 0; j < QUAD; j++) sum += w[b].q[i][o][j] * x[b].q[QUAD * i + j];
            sums[o] = fmaf(x[b].scale, w[b].scales[o] * (float)sum, sums[o]);
            sums[o] = fmaf(x[b].sum, w[b].minima[o], sums[o]);
        }
}

static void portable_tile(const row_block *x, size_t rows, size_t blocks, const weight_block *left, const weight_block *right, int is_narrow,
                          float *sums) {
    (void)is_narrow;
    for (size_t r = 0; r < rows; r++) {
        portable_panel(x + r * blocks, blocks, left, sums + 2 * PANEL * r);
        if (right) portable_panel(x + r * blocks, blocks, right, sums + 2 * PANEL * r + PANEL);
    }
}

const ob_quantised_kernels ob_portable_quantised = {
    "portable", ROWS_MAX, portable_tile, portable_quantise_row, portable_quantise_weights, portable_finish,
};

#if defined(__x86_64__)
static inline int32_t quad(const int8_t *q) {
    int32_t value;
    memcpy(&value, q, sizeof value);
    return value;
}

/// A whole block's products of four bits fit 16 bits: 8·2·15·127 = 30,480. Wider weights are two of four bits.
AVX2 static inline __attribute__((always_inline)) void avx2_panel(const row_block *x, size_t stride, size_t blocks, const weight_block *w,
                                                                  float *sums, const int rows, const int is_narrow) {
    const __m256i nibble = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1), sixteens = _mm256_set1_epi16(16);
    for (int r = 0; r < rows; r++) memset(sums + 2 * PANEL * r, 0, PANEL * sizeof *sums);
    for (size_t b = 0; b < blocks; b++)
        for (size_t half = 0; half < PANEL; half += 8) {
            __m256i low[4], high[4];
            for (int r = 0; r < rows; r++) low[r] = high[r] = _mm256_setzero_si256();
#pragma clang loop unroll(full)
            for (size_t i = 0; i < BLOCK / QUAD; i++) {
                const __m256i q = _mm256_loadu_si256((const __m256i *)w[b].q[i][half]);
                const __m256i lower = is_narrow ? q : _mm256_and_si256(q, nibble), upper = _mm256_and_si256(_mm256_srli_epi16(q, 4), nibble);
#pragma clang loop unroll(full)
                for (int r = 0; r < rows; r++) {
                    const __m256i four = _mm256_set1_epi32(quad(x[(size_t)r * stride + b].q + QUAD * i));
                    low[r] = _mm256_add_epi16(low[r], _mm256_maddubs_epi16(lower, four));
                    if (!is_narrow) high[r] = _mm256_add_epi16(high[r], _mm256_maddubs_epi16(upper, four));
                }
            }
            const __m256 scales = _mm256_loadu_ps(w[b].scales + half), minima = _mm256_loadu_ps(w[b].minima + half);
#pragma clang loop unroll(full)
            for (int r = 0; r < rows; r++) {
                const row_block *own = &x[(size_t)r * stride + b];
                __m256i sum = _mm256_madd_epi16(low[r], ones);
                if (!is_narrow) sum = _mm256_add_epi32(sum, _mm256_madd_epi16(high[r], sixteens));
                __m256 total = _mm256_loadu_ps(sums + 2 * PANEL * r + half);
                total = _mm256_fmadd_ps(_mm256_set1_ps(own->scale), _mm256_mul_ps(scales, _mm256_cvtepi32_ps(sum)), total);
                _mm256_storeu_ps(sums + 2 * PANEL * r + half, _mm256_fmadd_ps(_mm256_set1_ps(own->sum), minima, total));
            }
        }
}

AVX2 static void avx2_rows(const row_block *x, size_t rows, size_t blocks, const weight_block *w, int is_narrow, float *sums) {
    switch (2 * rows + (is_narrow != 0)) {
#define CASE(n) \
    case 2 * n: avx2_panel(x, blocks, blocks, w, sums, n, 0); break; \
    case 2 * n + 1: avx2_panel(x, blocks, blocks, w, sums, n, 1); break;
        CASE(1) CASE(2) CASE(3) CASE(4)
#undef CASE
    }
}

AVX2 static void avx2_tile(const row_block *x, size_t rows, size_t blocks, const weight_block *left, const weight_block *right, int is_narrow,
                           float *sums) {
    avx2_rows(x, rows, blocks, left, is_narrow, sums);
    if (right) avx2_rows(x, rows, blocks, right, is_narrow, sums + PANEL);
}

const ob_quantised_kernels ob_avx2_quantised = {
    "avx2", 4, avx2_tile, avx2_quantise_row, avx2_quantise_weights, avx2_finish,
};

/// Six rows of two panels have twelve sums, which hide the latency of vpdpbusd, and twelve totals.
VNNI static inline __attribute__((always_inline)) void vnni_panels(const row_block *x, size_t stride, size_t blocks, const weight_block *left,
                                                                   const weight_block *right, float *sums, const int rows, const int panels) {
    __m512 total[ROWS_MAX][2];
    const row_block *part[2] = {x, x + 3 * stride};
    for (int r = 0; r < rows; r++) total[r][0] = total[r][1] = _mm512_setzero_ps();
#pragma clang loop unroll(disable)
    for (size_t b = 0; b < blocks; b++, left++, right++, part[0]++, part[1]++) {
        __m512i sum[ROWS_MAX][2];
        for (int r = 0; r < rows; r++) sum[r][0] = sum[r][1] = _mm512_setzero_si512();
#pragma clang loop unroll(full)
        for (size_t i = 0; i < BLOCK / QUAD; i++) {
            const __m512i w = _mm512_loadu_si512(left->q[i]), w2 = panels > 1 ? _mm512_loadu_si512(right->q[i]) : w;
#pragma clang loop unroll(full)
            for (int r = 0; r < rows; r++) {
                const __m512i four = _mm512_set1_epi32(quad(part[r / 3][(size_t)(r % 3) * stride].q + QUAD * i));
                sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], w, four);
                if (panels > 1) sum[r][1] = _mm512_dpbusd_epi32(sum[r][1], w2, four);
            }
        }
#pragma clang loop unroll(full)
        for (int p = 0; p < panels; p++) {
            const weight_block *w = p ? right : left;
            const __m512 scales = _mm512_loadu_ps(w->scales), minima = _mm512_loadu_ps(w->minima);
#pragma clang loop unroll(full)
            for (int r = 0; r < rows; r++) {
                const row_block *own = &part[r / 3][(size_t)(r % 3) * stride];
                const __m512 term = _mm512_mul_ps(scales, _mm512_cvtepi32_ps(sum[r][p]));
                total[r][p] = _mm512_fmadd_ps(_mm512_set1_ps(own->scale), term, total[r][p]);
                total[r][p] = _mm512_fmadd_ps(_mm512_set1_ps(own->sum), minima, total[r][p]);
            }
        }
    }
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < panels; p++) _mm512_storeu_ps(sums + PANEL * (2 * r + p), total[r][p]);
}

VNNI static void vnni_tile(const row_block *x, size_t rows, size_t blocks, const weight_block *left, const weight_block *right, int is_narrow,
                           float *sums) {
    (void)is_narrow;
    switch (2 * rows + (right != NULL)) {
#define CASE(n) \
    case 2 * n: vnni_panels(x, blocks, blocks, left, left, sums, n, 1); break; \
    case 2 * n + 1: vnni_panels(x, blocks, blocks, left, right, sums, n, 2); break;
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#undef CASE
    }
}

const ob_quantised_kernels ob_avx512vnni_quantised = {
    "avx512vnni", ROWS_MAX, vnni_tile, vnni_quantise_row, vnni_quantise_weights, vnni_finish,
};

#elif defined(__aarch64__)
#define DOT __attribute__((target("dotprod")))

/// vdotq_s32 multiplies signed bytes, so 128 is subtracted from each q and 128·Σx is added to the sum.
DOT static inline __attribute__((always_inline)) void dot_panel(const row_block *x, size_t stride, size_t blocks, const weight_block *w, float *sums,
                                                                const int rows) {
    const uint8x16_t flip = vdupq_n_u8(128);
    const int8x16_t ones = vdupq_n_s8(1);
    for (int r = 0; r < rows; r++) memset(sums + 2 * PANEL * r, 0, PANEL * sizeof *sums);
    for (size_t b = 0; b < blocks; b++) {
        int32x4_t sum[4][4];
        for (int r = 0; r < rows; r++) {
            const row_block *own = &x[(size_t)r * stride + b];
            const int32x4_t parts = vdotq_s32(vdotq_s32(vdupq_n_s32(0), vld1q_s8(own->q), ones), vld1q_s8(own->q + 16), ones);
            for (int o = 0; o < 4; o++) sum[r][o] = vdupq_n_s32(128 * vaddvq_s32(parts));
        }
#pragma clang loop unroll(full)
        for (size_t i = 0; i < BLOCK / QUAD; i++) {
            int8x16_t q[4];
            for (int o = 0; o < 4; o++) q[o] = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(w[b].q[i][4 * o]), flip));
#pragma clang loop unroll(full)
            for (int r = 0; r < rows; r++) {
                int32_t four;
                memcpy(&four, x[(size_t)r * stride + b].q + QUAD * i, sizeof four);
                const int8x16_t value = vreinterpretq_s8_s32(vdupq_n_s32(four));
                for (int o = 0; o < 4; o++) sum[r][o] = vdotq_s32(sum[r][o], q[o], value);
            }
        }
        for (int r = 0; r < rows; r++) {
            const row_block *own = &x[(size_t)r * stride + b];
            for (int o = 0; o < 4; o++) {
                float *to = sums + 2 * PANEL * r + 4 * o;
                const float32x4_t term = vmulq_f32(vld1q_f32(w[b].scales + 4 * o), vcvtq_f32_s32(sum[r][o]));
                const float32x4_t total = vfmaq_f32(vld1q_f32(to), vdupq_n_f32(own->scale), term);
                vst1q_f32(to, vfmaq_f32(total, vdupq_n_f32(own->sum), vld1q_f32(w[b].minima + 4 * o)));
            }
        }
    }
}

DOT static void dot_rows(const row_block *x, size_t rows, size_t blocks, const weight_block *w, float *sums) {
    switch (rows) {
    case 1: dot_panel(x, blocks, blocks, w, sums, 1); break;
    case 2: dot_panel(x, blocks, blocks, w, sums, 2); break;
    case 3: dot_panel(x, blocks, blocks, w, sums, 3); break;
    default: dot_panel(x, blocks, blocks, w, sums, 4); break;
    }
}

DOT static void dot_tile(const row_block *x, size_t rows, size_t blocks, const weight_block *left, const weight_block *right, int is_narrow,
                         float *sums) {
    (void)is_narrow;
    dot_rows(x, rows, blocks, left, sums);
    if (right) dot_rows(x, rows, blocks, right, sums + PANEL);
}

const ob_quantised_kernels ob_neondot_quantised = {
    "neondot", 4, dot_tile, portable_quantise_row, portable_quantise_weights, portable_finish,
};
#endif

static const ob_quantised_kernels *kernels(void) { return ob_current_variant()->quantised; }

static size_t blocks_of(size_t inputs) { return (inputs + BLOCK - 1) / BLOCK; }

size_t ob_quantised_row_bytes(size_t inputs) { return blocks_of(inputs) * sizeof(row_block); }

size_t ob_quantised_panel_bytes(size_t inputs) { return blocks_of(inputs) * sizeof(weight_block); }

// Weights

int ob_quantised_reads(int type) { return type == OB_Q4_0 || type == OB_Q4_1 || type == OB_Q8_0; }

static float half_at(const uint8_t *p) {
    float value;
    ob_dequantise_portable(OB_F16, p, &value, 1);
    return value;
}

/// Reads block `b` of a stored row as q, scale and minimum.
static void read_block(int type, const void *row, size_t b, size_t inputs, uint8_t *q, float *scale, float *minimum) {
    const uint8_t *s = (const uint8_t *)row + b * ob_block_bytes(type);
    switch (type) {
    case OB_Q4_0:
    case OB_Q4_1: {
        const uint8_t *nibbles = s + (type == OB_Q4_1 ? 4 : 2);
        for (int i = 0; i < 16; i++) q[i] = nibbles[i] & 15;
        for (int i = 0; i < 16; i++) q[16 + i] = nibbles[i] >> 4;
        *scale = half_at(s);
        *minimum = type == OB_Q4_1 ? half_at(s + 2) : -8 * *scale;
        break;
    }
    case OB_Q8_0:
        for (int i = 0; i < BLOCK; i++) q[i] = s[2 + i] ^ 128;
        *scale = half_at(s);
        *minimum = -128 * *scale;
        break;
    default: {
        float values[BLOCK] = {0};
        const size_t left = inputs - b * BLOCK;
        memcpy(values, (const float *)row + b * BLOCK, (left < BLOCK ? left : BLOCK) * sizeof *values);
        kernels()->quantise_weights(values, q, scale, minimum);
    }
    }
}

void ob_quantise_panel(int type, const void *const *rows, size_t count, size_t inputs, void *panel) {
    weight_block *blocks = panel;
    for (size_t b = 0; b < blocks_of(inputs); b++) {
        weight_block *block = &blocks[b];
        if (count < PANEL) memset(block, 0, sizeof *block);
        for (size_t o = 0; o < count; o++) {
            uint8_t q[BLOCK];
            read_block(type, rows[o], b, inputs, q, &block->scales[o], &block->minima[o]);
            for (size_t i = 0; i < BLOCK / QUAD; i++) memcpy(block->q[i][o], q + QUAD * i, QUAD);
        }
    }
}

// Products

void ob_quantise_rows(const float *x, size_t stride, size_t rows, size_t inputs, void *quantised) {
    const ob_quantised_kernels *k = kernels();
    for (size_t r = 0; r < rows; r++) k->quantise_row(x + r * stride, inputs, (row_block *)quantised + r * blocks_of(inputs));
}

static const weight_block *panel_at(const ob_quantised_matrix *w, size_t output) {
    return (const weight_block *)w->panels + output / PANEL * blocks_of(w->inputs);
}

static size_t at_most(size_t count, size_t most) { return count < most ? count : most; }

// Two panels stay in the first or second cache while all rows go past them.

void ob_quantised_product(const void *x, size_t rows, const ob_quantised_matrix *w, float *y, size_t y_stride, int adds) {
    const ob_quantised_kernels *k = kernels();
    const size_t blocks = blocks_of(w->inputs);
    for (size_t o = 0; o < w->outputs; o += 2 * PANEL) {
        const size_t outputs = at_most(w->outputs - o, 2 * PANEL);
        const weight_block *left = panel_at(w, o), *right = outputs > PANEL ? left + blocks : NULL;
        for (size_t row = 0; row < rows; row += k->rows) {
            const size_t count = at_most(rows - row, k->rows);
            float sums[ROWS_MAX * 2 * PANEL] __attribute__((aligned(64)));
            float *to = y + row * y_stride + o;
            for (size_t r = 0; r < count; r++)  // y is often larger than the caches
                for (size_t i = 0; i < outputs; i += PANEL) __builtin_prefetch(to + r * y_stride + i, 1, 2);
            k->tile((const row_block *)x + row * blocks, count, blocks, left, right, w->is_narrow, sums);
            for (size_t r = 0; r < count; r++) k->finish(sums + 2 * PANEL * r, to + r * y_stride, outputs, adds);
        }
    }
}

void ob_quantised_gated_product(int kind, const void *x, size_t rows, const ob_quantised_matrix *gate, const ob_quantised_matrix *up, float *y,
                                size_t y_stride) {
    const ob_quantised_kernels *k = kernels();
    const size_t blocks = blocks_of(gate->inputs);
    const int is_narrow = gate->is_narrow && up->is_narrow;
    for (size_t o = 0; o < gate->outputs; o += PANEL) {
        const size_t outputs = at_most(gate->outputs - o, PANEL);
        for (size_t row = 0; row < rows; row += k->rows) {
            const size_t count = at_most(rows - row, k->rows);
            float sums[ROWS_MAX * 2 * PANEL] __attribute__((aligned(64)));
            float *to = y + row * y_stride + o;
            for (size_t r = 0; r < count; r++) __builtin_prefetch(to + r * y_stride, 1, 2);
            k->tile((const row_block *)x + row * blocks, count, blocks, panel_at(gate, o), panel_at(up, o), is_narrow, sums);
            for (size_t r = 0; r < count; r++)
                ob_gated_rank1(kind, sums + 2 * PANEL * r, NULL, 0, sums + 2 * PANEL * r + PANEL, NULL, 0, to + r * y_stride, outputs);
        }
    }
}
