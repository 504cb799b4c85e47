#include <math.h>
#include <string.h>
#include "variants.h"

/// The step changes nothing: |M·Σ| < 2^62, so h ≤ −63 rounds it to 0; M·Σ·2^32 is 0 modulo 2^32.
static int is_nothing(ob_step step) { return !step.multiplier || step.exponent <= -63 || step.exponent >= 32; }

/// For h ≥ 0: M·2^h modulo 2^32, negated where the step adds.
static uint32_t wrap_factor(ob_step step) {
    uint32_t factor = step.multiplier << step.exponent;
    return step.adds ? 0u - factor : factor;
}

/// The step for rows of `count` elements.
static void apply_step(const ob_kernels *kernels, int32_t *k, size_t k_stride, const int32_t *sums, size_t sums_stride,
                       size_t rows, size_t count, ob_step step) {
    if (is_nothing(step)) return;
    if (step.exponent < 0) {
        kernels->step_shift(k, k_stride, sums, sums_stride, rows, count, step.multiplier, -step.exponent, step.adds ? -1 : 0);
        return;
    }
    uint32_t factor = wrap_factor(step);
    for (size_t r = 0; r < rows; r++, k += k_stride, sums += sums_stride)
        for (size_t i = 0; i < count; i++) k[i] = (int32_t)((uint32_t)k[i] - (uint32_t)sums[i] * factor);
}

void ob_apply_step(int32_t *k, const int64_t *sums, size_t count, ob_step step) {
    if (is_nothing(step)) return;
    if (step.exponent < 0) {
        int64_t half = (int64_t)1 << (-step.exponent - 1);
        uint32_t sign = step.adds ? ~0u : 0;
        for (size_t i = 0; i < count; i++) {
            uint32_t delta = (uint32_t)((step.multiplier * sums[i] + half) >> -step.exponent);
            k[i] = (int32_t)((uint32_t)k[i] - ((delta ^ sign) - sign));
        }
    } else {
        uint32_t factor = wrap_factor(step);
        for (size_t i = 0; i < count; i++) k[i] = (int32_t)((uint32_t)k[i] - (uint32_t)sums[i] * factor);
    }
}

// Dense directions.

/// |Σ| of this many directions stays below 2^31: 131072·127·127 < 2^31.
enum { NARROW_DIRECTIONS_MAX = 131072 };

typedef void (*fused_sums)(const uint32_t *words, const int32_t *q, size_t count, int32_t *sums);

static void sum_tile(const ob_kernels *kernels, fused_sums fused, const uint32_t key[2], uint32_t stream,
                     const ob_direction *directions, size_t count, uint32_t tile, int32_t *sums) {
    uint32_t words[OB_FUSED_MAX * OB_TILE_WORDS] __attribute__((aligned(64)));
    int32_t q[OB_FUSED_MAX];
    for (size_t start = 0; start < count; start += OB_FUSED_MAX) {
        size_t n = count - start < OB_FUSED_MAX ? count - start : OB_FUSED_MAX;
        for (size_t i = 0; i < n; i++) q[i] = directions[start + i].q;
        kernels->fused_words(key, stream, directions + start, n, tile, words);
        fused(words, q, n, sums);
    }
}

static void update_dense(const ob_kernels *kernels, fused_sums fused, size_t tile_size, const uint32_t key[2],
                         uint32_t stream, const ob_round *rounds, size_t round_count, uint64_t first, size_t count,
                         int32_t *k) {
    int32_t sums[OB_TILE_SIGNS] __attribute__((aligned(64)));
    for (size_t start = 0; start < count; start += tile_size) {
        uint32_t tile = (uint32_t)((first + start) / tile_size);
        size_t n = count - start < tile_size ? count - start : tile_size;
        for (size_t r = 0; r < round_count; r++) {
            const ob_round *round = &rounds[r];
            if (round->count <= NARROW_DIRECTIONS_MAX) {
                memset(sums, 0, tile_size * sizeof *sums);
                sum_tile(kernels, fused, key, stream, round->directions, round->count, tile, sums);
                apply_step(kernels, k + start, 0, sums, 0, 1, n, round->step);
                continue;
            }
            int64_t wide[OB_TILE_SIGNS] = {0};
            for (size_t d = 0; d < round->count; d += NARROW_DIRECTIONS_MAX) {
                size_t part = round->count - d < NARROW_DIRECTIONS_MAX ? round->count - d : NARROW_DIRECTIONS_MAX;
                memset(sums, 0, tile_size * sizeof *sums);
                sum_tile(kernels, fused, key, stream, round->directions + d, part, tile, sums);
                for (size_t j = 0; j < tile_size; j++) wide[j] += sums[j];
            }
            ob_apply_step(k + start, wide, n, round->step);
        }
    }
}

void ob_update_signs(const uint32_t key[2], uint32_t stream, const ob_round *rounds, size_t round_count, uint64_t first,
                     size_t count, int32_t *k) {
    const ob_kernels *kernels = ob_current();
    update_dense(kernels, kernels->sum_signs, OB_TILE_SIGNS, key, stream, rounds, round_count, first, count, k);
}

void ob_update_gaussians(const uint32_t key[2], uint32_t stream, const ob_round *rounds, size_t round_count, uint64_t first,
                         size_t count, int32_t *k) {
    const ob_kernels *kernels = ob_current();
    update_dense(kernels, kernels->sum_gaussians, OB_TILE_GAUSSIANS, key, stream, rounds, round_count, first, count, k);
}

// Rank-1 directions: a small matrix product over the directions, block by block.

size_t ob_packed_bytes(size_t quads, size_t width) {
    return (width + OB_PANEL - 1) / OB_PANEL * quads * ob_current()->quad_bytes;
}

void ob_pack_quad(const int8_t *vectors, size_t stride, size_t width, const int8_t *q, size_t quad, size_t quads,
                  void *packed) {
    ob_current()->pack(vectors, stride, width, q, quad, quads, packed);
}

/// Quads of a depth block: the panels of b for 64 columns (64·256 bytes) stay in L1 while a's rows pass by.
enum { DEPTH_QUADS = 64 };
/// Quads whose sums take less time than fetching k does.
enum { SHORT_QUADS = 8 };

/// The factors that a block of the matrix needs of one segment.
typedef struct {
    const char *a;
    const char *b;
    size_t panel_bytes;
    size_t quads;
    size_t rows;
} segment_factors;

static size_t depth_of_block(size_t quads, size_t first) {
    return quads - first < DEPTH_QUADS ? quads - first : DEPTH_QUADS;
}

/// Σ a·b of the segment for the block's rows and up to OB_GROUP_COLUMNS columns.
static void sum_group(const ob_kernels *kernels, const segment_factors *factors, size_t panels, const int32_t *starts,
                      int32_t *sums) {
    for (size_t first = 0; first < factors->quads; first += DEPTH_QUADS) {
        size_t offset = first * kernels->quad_bytes;
        for (size_t r = 0; r < factors->rows; r += OB_PANEL) {
            size_t rows = factors->rows - r < OB_PANEL ? factors->rows - r : OB_PANEL;
            kernels->rank1_sums(factors->a + r / OB_PANEL * factors->panel_bytes + offset, factors->b + offset,
                                factors->panel_bytes, panels, rows, depth_of_block(factors->quads, first),
                                starts + first / DEPTH_QUADS * OB_BLOCK_ROWS + r, sums + r * OB_GROUP_COLUMNS, first > 0);
        }
    }
}

/// Sums and step of the segment in one pass over the block's rows and up to OB_GROUP_COLUMNS columns; 0, and nothing done, where
/// the kernel can't: a depth of several blocks, edges that are no whole tiles, steps that are no shift.
static int step_group(const ob_kernels *kernels, const segment_factors *factors, size_t width, const int32_t *starts, ob_step step,
                      int32_t *k, size_t columns) {
    if (!kernels->rank1_step || factors->quads > DEPTH_QUADS || factors->rows % 4 || width % OB_PANEL || is_nothing(step)
        || step.exponent >= 0)
        return 0;
    for (size_t r = 0; r < factors->rows; r += OB_PANEL) {
        size_t rows = factors->rows - r < OB_PANEL ? factors->rows - r : OB_PANEL;
        kernels->rank1_step(factors->a + r / OB_PANEL * factors->panel_bytes, factors->b, factors->panel_bytes, width / OB_PANEL, rows,
                            factors->quads, starts + r, k + r * columns, columns, step.multiplier, -step.exponent,
                            step.adds ? -1 : 0);
    }
    return 1;
}

void ob_update_rank1(const void *a, const void *b, size_t quads, const ob_segment *segments, size_t segment_count,
                     size_t row, size_t rows, size_t column, size_t block_columns, size_t columns, int32_t *k,
                     int64_t *carry) {
    const ob_kernels *kernels = ob_current();
    int32_t sums[OB_BLOCK_ROWS * OB_GROUP_COLUMNS] __attribute__((aligned(64)));
    int32_t starts[OB_SEGMENT_DIRECTIONS_MAX / OB_QUAD / DEPTH_QUADS * OB_BLOCK_ROWS] __attribute__((aligned(64)));
    segment_factors factors = {.panel_bytes = quads * kernels->quad_bytes, .rows = rows};

    for (size_t s = 0; s < segment_count; s++) {
        const ob_segment *segment = &segments[s];
        size_t offset = segment->first_quad * kernels->quad_bytes;
        factors.quads = segment->quads;
        factors.a = (const char *)a + row / OB_PANEL * factors.panel_bytes + offset;
        if (kernels->rank1_starts)
            for (size_t first = 0; first < segment->quads; first += DEPTH_QUADS)
                for (size_t r = 0; r < rows; r += OB_PANEL)
                    kernels->rank1_starts(factors.a + r / OB_PANEL * factors.panel_bytes + first * kernels->quad_bytes,
                                          depth_of_block(segment->quads, first),
                                          starts + first / DEPTH_QUADS * OB_BLOCK_ROWS + r);

        for (size_t c = 0; c < block_columns; c += OB_GROUP_COLUMNS) {
            size_t width = block_columns - c < OB_GROUP_COLUMNS ? block_columns - c : OB_GROUP_COLUMNS;
            size_t first_element = row * columns + column + c;
            if (s == 0)  // rows of k are far apart, so the processor does not see them coming
                for (size_t r = 0; r < rows; r++)
                    for (size_t i = 0; i < width; i += 16) __builtin_prefetch(k + first_element + r * columns + i, 1, 2);
            factors.b = (const char *)b + (column + c) / OB_PANEL * factors.panel_bytes + offset;
            // Few sums are made before k has come from memory, so the step of a first short segment comes after all of them.
            int waits = s == 0 && segment->quads <= SHORT_QUADS;
            if (!waits && !segment->carried && step_group(kernels, &factors, width, starts, segment->step, k + first_element, columns))
                continue;
            sum_group(kernels, &factors, (width + OB_PANEL - 1) / OB_PANEL, starts, sums);
            if (!segment->carried) {
                apply_step(kernels, k + first_element, columns, sums, OB_GROUP_COLUMNS, rows, width, segment->step);
                continue;
            }
            for (size_t r = 0; r < rows; r++) {
                size_t element = first_element + r * columns;
                for (size_t i = 0; i < width; i++) carry[element + i] += sums[r * OB_GROUP_COLUMNS + i];
                if (!segment->ends) continue;
                ob_apply_step(k + element, carry + element, width, segment->step);
                memset(carry + element, 0, width * sizeof *carry);
            }
        }
    }
}

// Between floats and fixed point.

float ob_largest_float(const float *values, size_t count) {
    float largest = 0;
    int bad = 0;
    for (size_t i = 0; i < count; i++) {
        float magnitude = fabsf(values[i]);
        bad |= !(magnitude <= 3.4028234663852886e38f);
        largest = magnitude > largest ? magnitude : largest;
    }
    return bad ? -1 : largest;
}

void ob_floats_to_fixed(const float *values, size_t count, int32_t s, int32_t *k) {
    const double scale = ldexp(1, s);
    // 1.5·2^52: adding it rounds a double of |x| < 2^51 to an integer, ties to even.
    const double magic = 6755399441055744.0;
    for (size_t i = 0; i < count; i++) {
        double rounded = (values[i] * scale + magic) - magic;
        k[i] = (int32_t)rounded;
    }
}

void ob_fixed_to_floats(const int32_t *k, size_t count, int32_t s, float *values) {
    if (s >= -96 && s <= 126) {  // 2^−s and all products are normal: the conversion is the only rounding
        ob_current()->to_floats(k, count, (float)ldexp(1, -s), values);
        return;
    }
    double scale = ldexp(1, -s);
    for (size_t i = 0; i < count; i++) values[i] = (float)(k[i] * scale);
}

uint32_t ob_largest_magnitude(const int32_t *k, size_t count) {
    uint32_t largest = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t magnitude = k[i] < 0 ? 0u - (uint32_t)k[i] : (uint32_t)k[i];
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest;
}
