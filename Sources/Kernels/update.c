#include <math.h>
#include <string.h>
#include "variants.h"

/// Whether the step changes nothing. |M·Σ| < 2^62, so h ≤ −63 rounds it to 0; and M·Σ·2^32 is 0 modulo 2^32.
static int is_nothing(ob_step step) { return !step.multiplier || step.exponent <= -63 || step.exponent >= 32; }

/// Returns M·2^h modulo 2^32 for h ≥ 0, negated if the step adds.
static uint32_t wrap_factor(ob_step step) {
    uint32_t factor = step.multiplier << step.exponent;
    return step.adds ? 0u - factor : factor;
}

/// Returns the shift for h < 0 and |Σ| ≤ bound.
static ob_shift shift_of(ob_step step, uint64_t bound) {
    const int32_t t = -step.exponent;
    // 65,535 can't be split into two signed words.
    const int is_narrow = !step.adds && t < 32 && bound < 1 << 15 && step.multiplier < 65535
        && step.multiplier * bound + ((uint64_t)1 << (t - 1)) <= INT32_MAX;
    return (ob_shift){.multiplier = step.multiplier, .t = t, .sign = step.adds ? -1 : 0, .is_narrow = is_narrow};
}

/// Applies the step to rows of `count` elements, whose |Σ| ≤ bound.
static void apply_step(const ob_kernels *kernels, int32_t *k, size_t k_stride, const int32_t *sums, size_t sums_stride,
                       size_t rows, size_t count, ob_step step, uint64_t bound) {
    if (is_nothing(step)) return;
    if (step.exponent < 0) {
        const ob_shift shift = shift_of(step, bound);
        kernels->step_shift(k, k_stride, sums, sums_stride, rows, count, &shift);
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

/// With this many directions |Σ| stays below 2^31: 131072·127·127 < 2^31.
enum { NARROW_DIRECTIONS_MAX = 131072 };

/// Σ |q|.
static uint64_t total_magnitude(const ob_direction *directions, size_t count) {
    uint64_t total = 0;
    for (size_t i = 0; i < count; i++) total += (uint64_t)(directions[i].q < 0 ? -directions[i].q : directions[i].q);
    return total;
}

void ob_apply_narrow_step(int32_t *k, const int32_t *sums, size_t count, const ob_round *round) {
    apply_step(ob_current(), k, 0, sums, 0, 1, count, round->step, total_magnitude(round->directions, round->count));
}

typedef void (*fused_sums)(const uint32_t *words, const int32_t *q, size_t count, int32_t *sums);
typedef void (*fused_step)(const uint32_t *words, const int32_t *q, size_t count, int32_t *k, const ob_shift *shift, ob_ahead *ahead);

static void sum_tile(const ob_kernels *kernels, fused_sums fused, const uint32_t key[2], uint32_t stream,
                     const ob_direction *directions, size_t count, uint32_t tile, int32_t *sums, ob_ahead *ahead) {
    uint32_t words[OB_FUSED_MAX * OB_TILE_WORDS] __attribute__((aligned(64)));
    int32_t q[OB_FUSED_MAX];
    for (size_t start = 0; start < count; start += OB_FUSED_MAX) {
        size_t n = count - start < OB_FUSED_MAX ? count - start : OB_FUSED_MAX;
        for (size_t i = 0; i < n; i++) q[i] = directions[start + i].q;
        kernels->fused_words(key, stream, directions + start, n, tile, words, ahead);
        fused(words, q, n, sums);
    }
}

/// Makes the sums and the step of a round of signs in one pass over a whole tile. Returns 0, with nothing done, if the kernel can't.
static int step_tile(const ob_kernels *kernels, fused_step step, const uint32_t key[2], uint32_t stream, const ob_round *round,
                     uint32_t tile, int32_t *k, ob_ahead *ahead) {
    if (round->count > OB_FUSED_MAX || is_nothing(round->step) || round->step.exponent >= 0) return 0;
    const ob_shift shift = shift_of(round->step, total_magnitude(round->directions, round->count));
    if (!shift.is_narrow) return 0;
    uint32_t words[OB_FUSED_MAX * OB_TILE_WORDS] __attribute__((aligned(64)));
    int32_t q[OB_FUSED_MAX];
    for (size_t i = 0; i < round->count; i++) q[i] = round->directions[i].q;
    kernels->fused_words(key, stream, round->directions, round->count, tile, words, ahead);
    step(words, q, round->count, k, &shift, ahead);
    return 1;
}

/// `step` is null if there is no such kernel. `peak` is the largest |z|.
static void update_dense(const ob_kernels *kernels, fused_sums fused, fused_step step, size_t tile_size, uint64_t peak,
                         const uint32_t key[2], uint32_t stream, const ob_round *rounds, size_t round_count, uint64_t first,
                         size_t count, int32_t *k) {
    int32_t sums[OB_TILE_SIGNS] __attribute__((aligned(64)));
    for (size_t start = 0; start < count; start += tile_size) {
        uint32_t tile = (uint32_t)((first + start) / tile_size);
        size_t n = count - start < tile_size ? count - start : tile_size;
        size_t rest = count - start - n;
        ob_ahead ahead = {0}, next_tile = {k + start + n, k + start + n + (rest < tile_size ? rest : tile_size)};
        for (size_t r = 0; r < round_count; r++) {
            const ob_round *round = &rounds[r];
            if (r == round_count - 1) ahead = next_tile;
            if (step && n == tile_size && step_tile(kernels, step, key, stream, round, tile, k + start, &ahead)) continue;
            if (round->count <= NARROW_DIRECTIONS_MAX) {
                memset(sums, 0, tile_size * sizeof *sums);
                sum_tile(kernels, fused, key, stream, round->directions, round->count, tile, sums, &ahead);
                apply_step(kernels, k + start, 0, sums, 0, 1, n, round->step, peak * total_magnitude(round->directions, round->count));
                continue;
            }
            int64_t wide[OB_TILE_SIGNS] = {0};
            for (size_t d = 0; d < round->count; d += NARROW_DIRECTIONS_MAX) {
                size_t part = round->count - d < NARROW_DIRECTIONS_MAX ? round->count - d : NARROW_DIRECTIONS_MAX;
                memset(sums, 0, tile_size * sizeof *sums);
                sum_tile(kernels, fused, key, stream, round->directions + d, part, tile, sums, &ahead);
                for (size_t j = 0; j < tile_size; j++) wide[j] += sums[j];
            }
            ob_apply_step(k + start, wide, n, round->step);
        }
    }
}

void ob_update_signs(const uint32_t key[2], uint32_t stream, const ob_round *rounds, size_t round_count, uint64_t first,
                     size_t count, int32_t *k) {
    const ob_kernels *kernels = ob_current();
    update_dense(kernels, kernels->sum_signs, kernels->step_signs, OB_TILE_SIGNS, 1, key, stream, rounds, round_count, first, count, k);
}

void ob_update_gaussians(const uint32_t key[2], uint32_t stream, const ob_round *rounds, size_t round_count, uint64_t first,
                         size_t count, int32_t *k) {
    const ob_kernels *kernels = ob_current();
    update_dense(kernels, kernels->sum_gaussians, 0, OB_TILE_GAUSSIANS, 127, key, stream, rounds, round_count, first, count, k);
}

// Rank-1 directions: a small matrix product over the directions, block by block.

static const ob_rank1 *rank1_for(const ob_kernels *kernels, int long_rounds) {
    return long_rounds && kernels->long_rank1 ? kernels->long_rank1 : kernels->rank1;
}

size_t ob_packed_bytes(size_t quads, size_t width, int long_rounds) {
    return (width + OB_PANEL - 1) / OB_PANEL * quads * rank1_for(ob_current(), long_rounds)->quad_bytes;
}

void ob_pack_quad(const int8_t *vectors, size_t stride, size_t width, const int8_t *q, size_t quad, size_t quads,
                  int long_rounds, void *packed) {
    rank1_for(ob_current(), long_rounds)->pack(vectors, stride, width, q, quad, quads, packed);
}

int32_t ob_largest_byte(const int8_t *values, size_t count) {
    int8_t low = 0, high = 0;
    for (size_t i = 0; i < count; i++) {
        low = values[i] < low ? values[i] : low;
        high = values[i] > high ? values[i] : high;
    }
    return high > -low ? high : -low;
}

/// Bytes of one panel in a depth block. b's four panels for 64 columns take 32 KiB and stay in the cache while a's rows pass by.
enum { DEPTH_BYTES = 8192 };

/// The factors that a block of the matrix needs of one segment.
typedef struct {
    const char *a;
    const char *b;
    size_t panel_bytes;
    /// The starting values of the first panel of rows. The next panel's are `panel_starts` further, those of the next depth block OB_PANEL further.
    const int32_t *starts;
    size_t panel_starts;
    size_t quads;
    size_t rows;
} segment_factors;

static size_t depth_quads(const ob_rank1 *rank1) { return DEPTH_BYTES / rank1->quad_bytes; }

static size_t depth_of_block(const ob_rank1 *rank1, size_t quads, size_t first) {
    return quads - first < depth_quads(rank1) ? quads - first : depth_quads(rank1);
}

static size_t depth_blocks(const ob_rank1 *rank1, size_t quads) { return (quads + depth_quads(rank1) - 1) / depth_quads(rank1); }

size_t ob_starts_of_panel(const ob_segment *segments, size_t segment_count, int long_rounds) {
    const ob_rank1 *rank1 = rank1_for(ob_current(), long_rounds);
    if (!rank1->starts) return 0;
    size_t blocks = 0;
    for (size_t s = 0; s < segment_count; s++) blocks += depth_blocks(rank1, segments[s].quads);
    return blocks * OB_PANEL;
}

void ob_make_starts(const void *a, size_t quads, const ob_segment *segments, size_t segment_count, size_t panel, int long_rounds,
                    int32_t *starts) {
    const ob_rank1 *rank1 = rank1_for(ob_current(), long_rounds);
    if (!rank1->starts) return;
    const char *factors = (const char *)a + panel * quads * rank1->quad_bytes;
    starts += panel * ob_starts_of_panel(segments, segment_count, long_rounds);
    for (size_t s = 0; s < segment_count; s++)
        for (size_t first = 0; first < segments[s].quads; first += depth_quads(rank1), starts += OB_PANEL)
            rank1->starts(factors + (segments[s].first_quad + first) * rank1->a_quad_bytes,
                          depth_of_block(rank1, segments[s].quads, first), starts);
}

/// Computes Σ a·b of the segment's first `quads` quads for the block.
static void sum_block(const ob_rank1 *rank1, const segment_factors *factors, size_t quads, size_t panels, int32_t *sums) {
    for (size_t first = 0; first < quads; first += depth_quads(rank1)) {
        for (size_t r = 0; r < factors->rows; r += OB_PANEL) {
            size_t rows = factors->rows - r < OB_PANEL ? factors->rows - r : OB_PANEL;
            const int32_t *starts = factors->starts + r / OB_PANEL * factors->panel_starts + first / depth_quads(rank1) * OB_PANEL;
            rank1->sums(factors->a + r / OB_PANEL * factors->panel_bytes + first * rank1->a_quad_bytes,
                        factors->b + first * rank1->quad_bytes, factors->panel_bytes, panels, rows,
                        depth_of_block(rank1, factors->quads, first), starts, sums + r * OB_BLOCK_COLUMNS, first > 0);
        }
    }
}

/// Computes the sums of all depth blocks but the last. The last one's sums and the step are done in one pass.
static void step_block(const ob_rank1 *rank1, const segment_factors *factors, size_t panels, int32_t *sums, int32_t *k,
                       size_t k_stride, const ob_shift *shift) {
    const size_t block = depth_blocks(rank1, factors->quads) - 1, last = block * depth_quads(rank1);
    sum_block(rank1, factors, last, panels, sums);
    rank1->step(factors->a + last * rank1->a_quad_bytes, factors->b + last * rank1->quad_bytes, factors->panel_bytes, panels,
                factors->rows, factors->quads - last, factors->starts + block * OB_PANEL, factors->panel_starts,
                last ? sums : 0, k, k_stride, shift);
}

/// Whether the kernel can do the sums and the step of the segment in one pass over a block. It can't for edges that are not whole tiles, for steps
/// that are not a shift, and for sums that other segments add to.
static int can_step(const ob_rank1 *rank1, const ob_segment *segment, size_t rows, size_t width) {
    return rank1->step && !segment->carried && rows % 4 == 0 && width % OB_PANEL == 0
        && !is_nothing(segment->step) && segment->step.exponent < 0;
}

static void copy_rows(int32_t *to, size_t to_stride, const int32_t *from, size_t from_stride, size_t rows, size_t width) {
    for (size_t r = 0; r < rows; r++) memcpy(to + r * to_stride, from + r * from_stride, width * sizeof *to);
}

void ob_update_rank1(const void *a, const int32_t *starts, const void *b, size_t quads, const ob_segment *segments,
                     size_t segment_count, size_t row, size_t rows, size_t column, size_t width, size_t columns, int long_rounds,
                     int32_t *k, int64_t *carry) {
    const ob_kernels *kernels = ob_current();
    const ob_rank1 *rank1 = rank1_for(kernels, long_rounds);
    int32_t sums[OB_BLOCK_ROWS * OB_BLOCK_COLUMNS] __attribute__((aligned(64)));
    segment_factors factors = {
        .panel_bytes = quads * rank1->quad_bytes,
        .panel_starts = ob_starts_of_panel(segments, segment_count, long_rounds),
        .rows = rows,
    };
    starts += row / OB_PANEL * factors.panel_starts;

    // The block's rows are far apart in k, often at addresses that share one set of L1. So several rounds work on a copy without gaps.
    int32_t copy[OB_BLOCK_ROWS * OB_BLOCK_COLUMNS] __attribute__((aligned(64)));
    const int copies = segment_count > 1;
    int32_t *const origin = k + row * columns + column;
    int32_t *const block = copies ? copy : origin;
    const size_t stride = copies ? OB_BLOCK_COLUMNS : columns;
    if (copies) copy_rows(copy, OB_BLOCK_COLUMNS, origin, columns, rows, width);
    else if (!rank1->ahead_quads || segments[0].quads < rank1->ahead_quads || !can_step(rank1, segments, rows, width))
        // The processor's own prefetcher does not foresee these addresses.
        for (size_t r = 0; r < rows; r++)
            for (size_t i = 0; i < width; i += 16) __builtin_prefetch(origin + r * columns + i, 1, 2);

    for (size_t s = 0; s < segment_count; s++) {
        const ob_segment *segment = &segments[s];
        factors.starts = starts;
        if (factors.panel_starts) starts += depth_blocks(rank1, segment->quads) * OB_PANEL;
        factors.quads = segment->quads;
        factors.a = (const char *)a + row / OB_PANEL * factors.panel_bytes + segment->first_quad * rank1->a_quad_bytes;
        factors.b = (const char *)b + column / OB_PANEL * factors.panel_bytes + segment->first_quad * rank1->quad_bytes;
        if (rank1->begin && (s == 0 || segment->quads != segment[-1].quads)) rank1->begin(segment->quads);

        // A single short segment has so few sums that k has not come from memory when they are done. So its step comes after all of them.
        const int waits = !copies && segment->quads <= OB_SHORT_QUADS;
        if (!waits && can_step(rank1, segment, rows, width)) {
            const ob_shift shift = shift_of(segment->step, segment->bound);
            step_block(rank1, &factors, width / OB_PANEL, sums, block, stride, &shift);
            continue;
        }
        sum_block(rank1, &factors, factors.quads, (width + OB_PANEL - 1) / OB_PANEL, sums);
        if (!segment->carried) {
            apply_step(kernels, block, stride, sums, OB_BLOCK_COLUMNS, rows, width, segment->step, segment->bound);
            continue;
        }
        for (size_t r = 0; r < rows; r++) {
            int64_t *total = carry + (row + r) * columns + column;
            for (size_t i = 0; i < width; i++) total[i] += sums[r * OB_BLOCK_COLUMNS + i];
            if (!segment->ends) continue;
            ob_apply_step(block + r * stride, total, width, segment->step);
            memset(total, 0, width * sizeof *total);
        }
    }
    if (rank1->end) rank1->end();
    if (copies) copy_rows(origin, columns, copy, OB_BLOCK_COLUMNS, rows, width);
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
    if (s >= -96 && s <= 126) {  // 2^−s and all products are normal, so the conversion is the only rounding
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
