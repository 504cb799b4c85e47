// Products of small differences in 8-bit integers (differences.h).
//
// Packed weights are panels of 16 outputs. For each four inputs a panel holds four bytes of each output: one register of AVX-512, two of AVX2.
// Differences are unsigned bytes, because vpmaddubsw and vpdpbusd want one unsigned factor. So `limit` is added to each, and limit·Σw is subtracted
// from the sum.
#include "variants.h"
#include <math.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#include "amx.h"
#endif

/// The bytes of a row are a multiple of STEP, which is a row of an AMX tile.
enum { PANEL = OB_DIFFERENCE_PANEL, STEP = 64, ROWS_MAX = 32, PANELS_MAX = 2 };

/// Bytes of packed weights by which all rows are multiplied before the next weights. They stay in L2.
enum { PANEL_BYTES = 1 << 17 };

/// Multiplies `rows` rows by `panels` panels: sums[16·(panels·r + p) + o] = Σ q·w over `bytes` bytes.
typedef void (*block_function)(const uint8_t *q, size_t rows, const int8_t *panel, size_t panels, size_t bytes, int32_t *sums);

struct ob_difference_kernels {
    const char *name;
    int weight_limit;
    int difference_limit;
    /// The number of rows, and of panels, of the largest block.
    size_t rows;
    size_t panels;
    block_function block;
    /// `begin` is called on the thread before products of this many rows (at most ROWS_MAX), and `end` after the last. Both are null if the variant
    /// needs no preparation. A variant that has them takes ROWS_MAX rows in a block.
    void (*begin)(size_t rows);
    void (*end)(void);
    /// Returns the largest magnitude of x − from (of x itself if `from` is null); NaN if a value is not finite.
    float (*largest)(const float *x, const float *from, size_t count);
    /// output = round((x − from)·factor) + offset for `count` values.
    void (*round_bytes)(const float *x, const float *from, size_t count, float factor, int offset, uint8_t *output);
    /// Row r of y = (adds ? y : 0) + from[r] + row_scales[r]·scales·(sums + offsets), for a block of `count` outputs that begins at output `at` of
    /// from's rows.
    void (*finish)(const int32_t *sums, size_t rows, size_t panels, const int32_t *offsets, const float *row_scales, const float *scales,
                   const float *const *from, size_t at, float *y, size_t y_stride, size_t count, int adds);
};

static inline float difference(const float *x, const float *from, size_t i) { return from ? x[i] - from[i] : x[i]; }

static float largest_tail(const float *x, const float *from, size_t start, size_t count, float largest) {
    float check = 0;
    for (size_t i = start; i < count; i++) {
        float d = difference(x, from, i);
        largest = fmaxf(largest, fabsf(d));
        check += d * 0;
    }
    return check == 0 ? largest : NAN;
}

static void round_tail(const float *x, const float *from, size_t start, size_t count, float factor, int offset, uint8_t *output) {
    for (size_t i = start; i < count; i++) output[i] = (uint8_t)((int)lrintf(difference(x, from, i) * factor) + offset);
}

static inline void finish_tail(const int32_t *sums, const int32_t *offsets, float scale, const float *scales, const float *from, float *y,
                               size_t count, int adds) {
    for (size_t o = 0; o < count; o++)
        y[o] = (adds ? y[o] : 0) + (from[o] + scale * scales[o] * (float)(sums[o] + offsets[o]));
}

// Portable

static void portable_block(const uint8_t *q, size_t rows, const int8_t *panel, size_t panels, size_t bytes, int32_t *sums) {
    (void)rows, (void)panels;
    int32_t total[PANEL] = {0};
    for (size_t i = 0; i < bytes; i += 4, panel += 4 * PANEL)
        for (size_t o = 0; o < PANEL; o++)
            for (size_t j = 0; j < 4; j++) total[o] += q[i + j] * panel[4 * o + j];
    memcpy(sums, total, sizeof total);
}

static float portable_largest(const float *x, const float *from, size_t count) { return largest_tail(x, from, 0, count, 0); }

static void portable_round(const float *x, const float *from, size_t count, float factor, int offset, uint8_t *output) {
    round_tail(x, from, 0, count, factor, offset, output);
}

static void portable_finish(const int32_t *sums, size_t rows, size_t panels, const int32_t *offsets, const float *row_scales,
                            const float *scales, const float *const *from, size_t at, float *y, size_t y_stride, size_t count, int adds) {
    for (size_t r = 0; r < rows; r++)
        finish_tail(sums + PANEL * panels * r, offsets, row_scales[r], scales, from[r] + at, y + r * y_stride, count, adds);
}

const ob_difference_kernels ob_portable_differences = {
    .name = "portable",
    .weight_limit = 127,
    .difference_limit = 127,
    .rows = 1,
    .panels = 1,
    .block = portable_block,
    .largest = portable_largest,
    .round_bytes = portable_round,
    .finish = portable_finish,
};

#if defined(__x86_64__)
#define AVX2 __attribute__((target("avx2")))
#define VNNI __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2"), min_vector_width(512)))

AVX2 static inline __m256 difference_8(const float *x, const float *from, size_t i) {
    __m256 value = _mm256_loadu_ps(x + i);
    return from ? _mm256_sub_ps(value, _mm256_loadu_ps(from + i)) : value;
}

AVX2 static float avx2_largest(const float *x, const float *from, size_t count) {
    const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF)), zero = _mm256_setzero_ps();
    __m256 top[2] = {zero, zero}, check = zero;
    size_t i = 0;
    for (; i + 16 <= count; i += 16)
#pragma unroll
        for (size_t h = 0; h < 2; h++) {
            __m256 d = difference_8(x, from, i + 8 * h);
            top[h] = _mm256_max_ps(top[h], _mm256_and_ps(d, magnitude));
            check = _mm256_add_ps(check, _mm256_mul_ps(d, zero));
        }
    float lanes[8], checks[8], largest = 0, sum = 0;
    _mm256_storeu_ps(lanes, _mm256_max_ps(top[0], top[1]));
    _mm256_storeu_ps(checks, check);
    for (int l = 0; l < 8; l++) {
        largest = fmaxf(largest, lanes[l]);
        sum += checks[l];
    }
    return sum == 0 ? largest_tail(x, from, i, count, largest) : NAN;
}

AVX2 static void avx2_round(const float *x, const float *from, size_t count, float factor, int offset, uint8_t *output) {
    const __m256 factors = _mm256_set1_ps(factor);
    const __m256i offsets = _mm256_set1_epi8((char)offset), order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    size_t i = 0;
    for (; i + 32 <= count; i += 32) {
        __m256i v[4];
#pragma unroll
        for (size_t j = 0; j < 4; j++) v[j] = _mm256_cvtps_epi32(_mm256_mul_ps(factors, difference_8(x, from, i + 8 * j)));
        __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
        bytes = _mm256_add_epi8(_mm256_permutevar8x32_epi32(bytes, order), offsets);  // a pack instruction works within each half
        _mm256_storeu_si256((__m256i *)(output + i), bytes);
    }
    round_tail(x, from, i, count, factor, offset, output);
}

AVX2 static inline void avx2_finish_panel(const int32_t *sums, const int32_t *offsets, float scale, const float *scales,
                                          const float *from, float *y, size_t count, int adds) {
    if (count < PANEL) {
        finish_tail(sums, offsets, scale, scales, from, y, count, adds);
        return;
    }
#pragma unroll
    for (size_t o = 0; o < PANEL; o += 8) {
        __m256i sum = _mm256_add_epi32(_mm256_loadu_si256((const __m256i *)(sums + o)), _mm256_loadu_si256((const __m256i *)(offsets + o)));
        __m256 factor = _mm256_mul_ps(_mm256_set1_ps(scale), _mm256_loadu_ps(scales + o));
        __m256 value = _mm256_add_ps(_mm256_loadu_ps(from + o), _mm256_mul_ps(factor, _mm256_cvtepi32_ps(sum)));
        if (adds) value = _mm256_add_ps(_mm256_loadu_ps(y + o), value);
        _mm256_storeu_ps(y + o, value);
    }
}

AVX2 static void avx2_finish(const int32_t *sums, size_t rows, size_t panels, const int32_t *offsets, const float *row_scales,
                             const float *scales, const float *const *from, size_t at, float *y, size_t y_stride, size_t count, int adds) {
    (void)panels;
    for (size_t r = 0; r < rows; r++)
        avx2_finish_panel(sums + PANEL * r, offsets, row_scales[r], scales, from[r] + at, y + r * y_stride, count, adds);
}

/// Eight products, in two pairs, are summed in 16 bits before they are widened: 8·2·62·31 = 30,752 fits. With 8 bits instead of 6 every single pair
/// would have to be widened, which would take twice as long here.
AVX2 static inline __attribute__((always_inline)) void avx2_rows(const uint8_t *q, const int8_t *panel, size_t bytes, int32_t *sums,
                                                                 size_t rows) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i wide[4][2];
    for (size_t r = 0; r < rows; r++) wide[r][0] = wide[r][1] = _mm256_setzero_si256();
    for (size_t i = 0; i < bytes; i += 32, panel += 32 * PANEL) {
        __m256i narrow[4][2];
#pragma unroll
        for (size_t s = 0; s < 8; s++) {
            const __m256i *w = (const __m256i *)(panel + 4 * PANEL * s);
            __m256i w0 = _mm256_loadu_si256(w), w1 = _mm256_loadu_si256(w + 1);
#pragma unroll
            for (size_t r = 0; r < rows; r++) {
                int32_t four;
                memcpy(&four, q + r * bytes + i + 4 * s, 4);
                __m256i x = _mm256_set1_epi32(four);
                __m256i p0 = _mm256_maddubs_epi16(x, w0), p1 = _mm256_maddubs_epi16(x, w1);
                narrow[r][0] = s ? _mm256_add_epi16(narrow[r][0], p0) : p0;
                narrow[r][1] = s ? _mm256_add_epi16(narrow[r][1], p1) : p1;
            }
        }
#pragma unroll
        for (size_t r = 0; r < rows; r++) {
            wide[r][0] = _mm256_add_epi32(wide[r][0], _mm256_madd_epi16(narrow[r][0], ones));
            wide[r][1] = _mm256_add_epi32(wide[r][1], _mm256_madd_epi16(narrow[r][1], ones));
        }
    }
    for (size_t r = 0; r < rows; r++) {
        _mm256_storeu_si256((__m256i *)(sums + PANEL * r), wide[r][0]);
        _mm256_storeu_si256((__m256i *)(sums + PANEL * r + 8), wide[r][1]);
    }
}

AVX2 static void avx2_block(const uint8_t *q, size_t rows, const int8_t *panel, size_t panels, size_t bytes, int32_t *sums) {
    (void)panels;
    switch (rows) {
    case 4: avx2_rows(q, panel, bytes, sums, 4); break;
    case 3: avx2_rows(q, panel, bytes, sums, 3); break;
    case 2: avx2_rows(q, panel, bytes, sums, 2); break;
    default: avx2_rows(q, panel, bytes, sums, 1); break;
    }
}

const ob_difference_kernels ob_avx2_differences = {
    .name = "avx2",
    .weight_limit = 31,
    .difference_limit = 31,
    .rows = 4,
    .panels = 1,
    .block = avx2_block,
    .largest = avx2_largest,
    .round_bytes = avx2_round,
    .finish = avx2_finish,
};

VNNI static inline __attribute__((always_inline)) __m512i vnni_broadcast(const uint8_t *four) {
    int32_t value;
    memcpy(&value, four, 4);
    return _mm512_set1_epi32(value);
}

/// Sixteen sums hide the latency of vpdpbusd. They are eight rows of two panels, which share each broadcast of a row's bytes, or eight rows of one
/// panel with even and odd steps apart.
VNNI static inline __attribute__((always_inline)) void vnni_rows(const uint8_t *q, const int8_t *panel, size_t panels, size_t bytes,
                                                                 int32_t *sums, size_t rows) {
    __m512i total[8][2];
    for (size_t r = 0; r < rows; r++) total[r][0] = total[r][1] = _mm512_setzero_si512();
    const uint8_t *half[2] = {q, q + 4 * bytes};
    const int8_t *second = panel + PANEL * bytes;
    for (size_t i = 0; i < bytes; i += 8) {
#pragma unroll
        for (size_t h = 0; h < 2; h++) {
            const size_t at = i + 4 * h;
            const __m512i w = _mm512_loadu_si512(panel + PANEL * at), w2 = panels > 1 ? _mm512_loadu_si512(second + PANEL * at) : w;
#pragma unroll
            for (size_t r = 0; r < rows; r++) {
                const __m512i x = vnni_broadcast(half[r / 4] + r % 4 * bytes + at);
                if (panels > 1) {
                    total[r][0] = _mm512_dpbusd_epi32(total[r][0], x, w);
                    total[r][1] = _mm512_dpbusd_epi32(total[r][1], x, w2);
                } else {
                    total[r][h] = _mm512_dpbusd_epi32(total[r][h], x, w);
                }
            }
        }
    }
    for (size_t r = 0; r < rows; r++) {
        if (panels > 1) {
            _mm512_storeu_si512(sums + PANEL * 2 * r, total[r][0]);
            _mm512_storeu_si512(sums + PANEL * (2 * r + 1), total[r][1]);
        } else {
            _mm512_storeu_si512(sums + PANEL * r, _mm512_add_epi32(total[r][0], total[r][1]));
        }
    }
}

VNNI static inline __attribute__((always_inline)) void vnni_panels(const uint8_t *q, size_t rows, const int8_t *panel, size_t panels,
                                                                   size_t bytes, int32_t *sums) {
    switch (rows) {
    case 8: vnni_rows(q, panel, panels, bytes, sums, 8); break;
    case 7: vnni_rows(q, panel, panels, bytes, sums, 7); break;
    case 6: vnni_rows(q, panel, panels, bytes, sums, 6); break;
    case 5: vnni_rows(q, panel, panels, bytes, sums, 5); break;
    case 4: vnni_rows(q, panel, panels, bytes, sums, 4); break;
    case 3: vnni_rows(q, panel, panels, bytes, sums, 3); break;
    case 2: vnni_rows(q, panel, panels, bytes, sums, 2); break;
    default: vnni_rows(q, panel, panels, bytes, sums, 1); break;
    }
}

VNNI static void vnni_block(const uint8_t *q, size_t rows, const int8_t *panel, size_t panels, size_t bytes, int32_t *sums) {
    if (panels > 1) vnni_panels(q, rows, panel, 2, bytes, sums);
    else vnni_panels(q, rows, panel, 1, bytes, sums);
}

VNNI static inline __m512 difference_16(const float *x, const float *from, size_t i) {
    __m512 value = _mm512_loadu_ps(x + i);
    return from ? _mm512_sub_ps(value, _mm512_loadu_ps(from + i)) : value;
}

/// Magnitudes compare like their bits, and values that are not finite have the largest bits.
VNNI static float vnni_largest(const float *x, const float *from, size_t count) {
    const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
    __m512i top[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    size_t i = 0;
    for (; i + 32 <= count; i += 32)
#pragma unroll
        for (size_t h = 0; h < 2; h++)
            top[h] = _mm512_max_epu32(top[h], _mm512_and_si512(_mm512_castps_si512(difference_16(x, from, i + 16 * h)), magnitude));
    const int32_t bits = (int32_t)_mm512_reduce_max_epu32(_mm512_max_epu32(top[0], top[1]));
    float largest;
    memcpy(&largest, &bits, 4);
    return isfinite(largest) ? largest_tail(x, from, i, count, largest) : NAN;
}

VNNI static void vnni_round(const float *x, const float *from, size_t count, float factor, int offset, uint8_t *output) {
    const __m512 factors = _mm512_set1_ps(factor);
    const __m512i offsets = _mm512_set1_epi8((char)offset);
    const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    size_t i = 0;
    for (; i + 64 <= count; i += 64) {
        __m512i v[4];
#pragma unroll
        for (size_t j = 0; j < 4; j++) v[j] = _mm512_cvtps_epi32(_mm512_mul_ps(factors, difference_16(x, from, i + 16 * j)));
        __m512i bytes = _mm512_packs_epi16(_mm512_packs_epi32(v[0], v[1]), _mm512_packs_epi32(v[2], v[3]));
        bytes = _mm512_add_epi8(_mm512_permutexvar_epi32(order, bytes), offsets);  // a pack instruction works within each quarter
        _mm512_storeu_si512(output + i, bytes);
    }
    avx2_round(x + i, from ? from + i : NULL, count - i, factor, offset, output + i);
}

VNNI static void vnni_finish(const int32_t *sums, size_t rows, size_t panels, const int32_t *offsets, const float *row_scales,
                             const float *scales, const float *const *from, size_t at, float *y, size_t y_stride, size_t count, int adds) {
    for (size_t o = 0; o < count; o += PANEL) {
        const __mmask16 here = count - o < PANEL ? (__mmask16)((1u << (count - o)) - 1) : 0xFFFF;
        const __m512i offset = _mm512_loadu_si512(offsets + o);
        const __m512 scale = _mm512_loadu_ps(scales + o);
        for (size_t r = 0; r < rows; r++) {
            __m512i sum = _mm512_add_epi32(_mm512_loadu_si512(sums + PANEL * panels * r + o), offset);
            __m512 term = _mm512_mul_ps(_mm512_mul_ps(_mm512_set1_ps(row_scales[r]), scale), _mm512_cvtepi32_ps(sum));
            __m512 value = _mm512_add_ps(_mm512_maskz_loadu_ps(here, from[r] + at + o), term);
            if (adds) value = _mm512_add_ps(_mm512_maskz_loadu_ps(here, y + r * y_stride + o), value);
            _mm512_mask_storeu_ps(y + r * y_stride + o, here, value);
        }
    }
}

const ob_difference_kernels ob_avx512vnni_differences = {
    .name = "avx512vnni",
    .weight_limit = 127,
    .difference_limit = 127,
    .rows = 8,
    .panels = 2,
    .block = vnni_block,
    .largest = vnni_largest,
    .round_bytes = vnni_round,
    .finish = vnni_finish,
};

/// Configures the tiles: 0 to 3 for sums (two of rows by two of panels), 4 and 5 for rows, 6 and 7 for panels.
AMX static void amx_begin(size_t rows) {
    ob_tile_shapes shapes = {0};
    const size_t upper = rows < OB_TILE_ROWS ? rows : OB_TILE_ROWS, lower = rows - upper;
    for (int tile = 0; tile < 2; tile++) {
        ob_shape_tile(&shapes, tile, upper, OB_TILE_COLUMN_BYTES);
        if (lower) ob_shape_tile(&shapes, 2 + tile, lower, OB_TILE_COLUMN_BYTES);
        ob_shape_tile(&shapes, 6 + tile, OB_TILE_ROWS, OB_TILE_COLUMN_BYTES);
    }
    ob_shape_tile(&shapes, 4, upper, OB_TILE_COLUMN_BYTES);
    if (lower) ob_shape_tile(&shapes, 5, lower, OB_TILE_COLUMN_BYTES);
    _tile_loadconfig(&shapes);
}

AMX static void amx_end(void) { _tile_release(); }

AMX static inline __attribute__((always_inline)) void amx_tiles(const uint8_t *q, int has_lower, const int8_t *panel, size_t panels,
                                                                size_t bytes, int32_t *sums) {
    const uint8_t *lower = q + OB_TILE_ROWS * bytes;
    const int8_t *second = panel + PANEL * bytes;
    _tile_zero(0);
    if (panels > 1) _tile_zero(1);
    if (has_lower) _tile_zero(2);
    if (has_lower && panels > 1) _tile_zero(3);
    for (size_t i = 0; i < bytes; i += STEP) {
        _tile_loadd(4, q + i, bytes);
        _tile_loadd(6, panel + PANEL * i, OB_TILE_COLUMN_BYTES);
        _tile_dpbusd(0, 4, 6);
        if (panels > 1) {
            _tile_loadd(7, second + PANEL * i, OB_TILE_COLUMN_BYTES);
            _tile_dpbusd(1, 4, 7);
        }
        if (has_lower) {
            _tile_loadd(5, lower + i, bytes);
            _tile_dpbusd(2, 5, 6);
            if (panels > 1) _tile_dpbusd(3, 5, 7);
        }
    }
    const size_t stride = panels * PANEL * sizeof *sums;
    int32_t *below = sums + OB_TILE_ROWS * panels * PANEL;
    _tile_stored(0, sums, stride);
    if (panels > 1) _tile_stored(1, sums + PANEL, stride);
    if (has_lower) _tile_stored(2, below, stride);
    if (has_lower && panels > 1) _tile_stored(3, below + PANEL, stride);
}

AMX static void amx_block(const uint8_t *q, size_t rows, const int8_t *panel, size_t panels, size_t bytes, int32_t *sums) {
    if (rows > OB_TILE_ROWS) {
        if (panels > 1) amx_tiles(q, 1, panel, 2, bytes, sums);
        else amx_tiles(q, 1, panel, 1, bytes, sums);
    } else {
        if (panels > 1) amx_tiles(q, 0, panel, 2, bytes, sums);
        else amx_tiles(q, 0, panel, 1, bytes, sums);
    }
}

const ob_difference_kernels ob_amx_differences = {
    .name = "amx",
    .weight_limit = 127,
    .difference_limit = 127,
    .rows = 2 * OB_TILE_ROWS,
    .panels = 2,
    .block = amx_block,
    .begin = amx_begin,
    .end = amx_end,
    .largest = vnni_largest,
    .round_bytes = vnni_round,
    .finish = vnni_finish,
};
#endif

static const ob_difference_kernels *kernels(void) { return ob_current_variant()->differences; }

const char *ob_difference_variant(void) { return kernels()->name; }

size_t ob_difference_bytes(size_t inputs) { return (inputs + STEP - 1) / STEP * STEP; }

void ob_difference_limits(int *weight, int *difference) {
    *weight = kernels()->weight_limit;
    *difference = kernels()->difference_limit;
}

void ob_difference_pack(const float *w, size_t outputs, size_t inputs, int8_t *packed, float *scales, int32_t *offsets) {
    const ob_difference_kernels *k = kernels();
    const size_t bytes = ob_difference_bytes(inputs), panels = (outputs + PANEL - 1) / PANEL;
    const float limit = (float)k->weight_limit;
    for (size_t o = 0; o < panels * PANEL; o++) {
        int8_t *output = packed + o / PANEL * PANEL * bytes + o % PANEL * 4;
        const float *row = w + o * inputs;
        const float largest = o < outputs ? k->largest(row, NULL, inputs) : 0;
        // A weight that is not finite makes every product of its output not finite.
        scales[o] = largest / limit;
        const float factor = largest > 0 ? limit / largest : 0;
        int32_t sum = 0;
        for (size_t start = 0; start < bytes; start += STEP) {
            union {
                int8_t each[STEP];
                uint8_t rounded[STEP];
                int32_t words[STEP / 4];
            } block = {{0}};
            if (factor > 0 && start < inputs)
                k->round_bytes(row + start, NULL, inputs - start < STEP ? inputs - start : STEP, factor, 0, block.rounded);
            for (size_t i = 0; i < STEP; i++) sum += block.each[i];
            for (size_t i = 0; i < STEP / 4; i++) memcpy(output + (start / 4 + i) * 4 * PANEL, &block.words[i], 4);
        }
        offsets[o] = -k->difference_limit * sum;
    }
}

float ob_difference_quantise(const float *x, const float *from, size_t inputs, uint8_t *quantised) {
    const ob_difference_kernels *k = kernels();
    const float largest = k->largest(x, from, inputs), limit = (float)k->difference_limit;
    const int is_usable = largest > 0 && isfinite(limit / largest);
    if (is_usable) k->round_bytes(x, from, inputs, limit / largest, k->difference_limit, quantised);
    const size_t used = is_usable ? inputs : 0;
    memset(quantised + used, k->difference_limit, ob_difference_bytes(inputs) - used);
    return largest / limit;
}

void ob_difference_product(const uint8_t *quantised, const float *row_scales, size_t rows, const int8_t *packed, const float *scales,
                           const int32_t *offsets, size_t outputs, size_t inputs, const float *const *from, float *y, size_t y_stride,
                           int adds) {
    const ob_difference_kernels *k = kernels();
    const size_t bytes = ob_difference_bytes(inputs);
    // A turn is ROWS_MAX rows by as many panels as stay in L2, so that y is written along its rows. A block's panels serve all those rows from L1.
    const size_t group = PANEL_BYTES / (PANEL * bytes) > k->panels ? PANEL_BYTES / (PANEL * bytes) / k->panels * k->panels : k->panels;
    for (size_t first = 0; first < outputs; first += group * PANEL) {
        const size_t end = first + group * PANEL < outputs ? first + group * PANEL : outputs;
        for (size_t start = 0; start < rows; start += ROWS_MAX) {
            const size_t last = rows - start < ROWS_MAX ? rows : start + ROWS_MAX;
            if (k->begin) k->begin(last - start);
            for (size_t o = first; o < end; o += k->panels * PANEL) {
                const size_t left = (end - o + PANEL - 1) / PANEL, panels = left < k->panels ? left : k->panels;
                for (size_t row = start; row < last; row += k->rows) {
                    const size_t own = last - row < k->rows ? last - row : k->rows;
                    int32_t sums[ROWS_MAX * PANELS_MAX * PANEL] __attribute__((aligned(64)));
                    for (size_t r = row; r < row + own; r++)  // y is often larger than the caches
                        for (size_t p = 0; p < panels; p++) __builtin_prefetch(y + r * y_stride + o + p * PANEL, 1, 2);
                    k->block(quantised + row * bytes, own, packed + o * bytes, panels, bytes, sums);
                    k->finish(sums, own, panels, offsets + o, row_scales + row, scales + o, from + row, o, y + row * y_stride + o, y_stride,
                              end - o < panels * PANEL ? end - o : panels * PANEL, adds);
                }
            }
        }
    }
    if (k->end) k->end();
}
