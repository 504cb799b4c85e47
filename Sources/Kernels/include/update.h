// The integer update k −= M·Σ·2^h of many directions and rounds (docs/reference/arithmetic.md).
#ifndef ONEBYTE_UPDATE_H
#define ONEBYTE_UPDATE_H
#include <stddef.h>
#include <stdint.h>
#include "philox.h"

/// Returns the name of the kernels' variant in use: "portable", "avx2", "avx512", "avx512vnni", "avx512vbmi", "amx", "neon" or "neondot". It is the
/// best that the processor has, unless the environment variable ONEBYTE_KERNELS names another one that the processor has too.
const char *ob_kernels_name(void);

/// Returns the name of a variant that this processor can run, the best first; null after the last.
const char *ob_kernels_available(size_t index);

/// Makes the calling thread, and no other, use the named variant, or with null the process's again. Returns 0 if this processor does not have it. For
/// tests and benchmarks. Only the variant that packed factors can read them.
int ob_kernels_select(const char *name);

/// A direction's name and its byte q, −127…127.
typedef struct {
    uint32_t machine;
    uint32_t sample;
    int32_t q;
} ob_direction;

/// A step: delta = round(M·Σ·2^h), halves upwards, modulo 2^32. Then k −= delta, or k += delta if `adds` is not 0.
typedef struct {
    uint32_t multiplier;
    int32_t exponent;
    int32_t adds;
} ob_step;

/// One round for one tensor.
typedef struct {
    const ob_direction *directions;
    size_t count;
    ob_step step;
} ob_round;

/// k −= round(M·Σ·2^h) for each element.
void ob_apply_step(int32_t *k, const int64_t *sums, size_t count, ob_step step);

/// Applies the rounds to elements first … first + count − 1 of a tensor whose directions are dense signs; `k` points at the
/// first of them. `first` is a multiple of OB_TILE_SIGNS. A tile stays in the cache through all rounds.
void ob_update_signs(const uint32_t key[2], uint32_t stream, const ob_round *rounds, size_t round_count, uint64_t first,
                     size_t count, int32_t *k);

/// The same for directions from the table of the normal distribution. `first` is a multiple of OB_TILE_GAUSSIANS.
void ob_update_gaussians(const uint32_t key[2], uint32_t stream, const ob_round *rounds, size_t round_count, uint64_t first,
                         size_t count, int32_t *k);

/// The factors of rank-1 directions are packed in quads of directions and panels of 16 elements.
enum { OB_QUAD = 4, OB_PANEL = 16, OB_BLOCK_ROWS = 64, OB_BLOCK_COLUMNS = 64, OB_SEGMENT_DIRECTIONS_MAX = 4096, OB_LONG_QUADS = 20 };

/// Returns the bytes of the packed factors of `quads` quads of directions over `width` elements. Here and below `long_rounds` says that the rounds
/// have OB_LONG_QUADS quads or more. Some processors have faster sums for these. Factors that are packed with it are for such updates only.
size_t ob_packed_bytes(size_t quads, size_t width, int long_rounds);

/// Packs four vectors as quad `quad` of `quads`. Vector i is at vectors + i·stride; the stride is a multiple of 64, ≥ width, and all of it is
/// readable. With `q` the vectors are a's, and each is scaled by q[i] (0 for a missing vector). Without `q` they are b's.
void ob_pack_quad(const int8_t *vectors, size_t stride, size_t width, const int8_t *q, size_t quad, size_t quads,
                  int long_rounds, void *packed);

/// Returns the largest |value|.
int32_t ob_largest_byte(const int8_t *values, size_t count);

/// Consecutive quads that belong to one round: at most OB_SEGMENT_DIRECTIONS_MAX directions.
typedef struct {
    size_t first_quad;
    /// Number of quads, at least one.
    size_t quads;
    ob_step step;
    /// Upper bound of the round's |Σ|: Σ |q|·max|b|.
    uint64_t bound;
    /// Set for a round that is too long for one segment. Its sums are carried over, and the step is taken where `ends` is not 0.
    int32_t carried;
    int32_t ends;
} ob_segment;

/// Returns how many starting values the sums of one panel of a's have; 0 if the sums start from 0. The values are aligned to 64 bytes.
size_t ob_starts_of_panel(const ob_segment *segments, size_t segment_count, int long_rounds);

/// Writes the starting values of panel `panel` of the packed a's to their place in `starts`, which holds those of all panels.
void ob_make_starts(const void *a, size_t quads, const ob_segment *segments, size_t segment_count, size_t panel, int long_rounds,
                    int32_t *starts);

/// Applies the segments in order to a block of the matrix. `row` and `column` are the block's first row and column (multiples of OB_PANEL); it has at
/// most OB_BLOCK_ROWS × OB_BLOCK_COLUMNS elements. `a` (with its `starts`) and `b` are packed over `quads` quads and are indexed by row and by
/// column. `k` and `carry` point at element (0, 0) of the matrix, which has `columns` columns. Only carried segments touch `carry`, which holds zeros
/// outside a carried round.
void ob_update_rank1(const void *a, const int32_t *starts, const void *b, size_t quads, const ob_segment *segments,
                     size_t segment_count, size_t row, size_t rows, size_t column, size_t width, size_t columns, int long_rounds,
                     int32_t *k, int64_t *carry);

/// Returns the largest |w|, or −1 if a value is not finite.
float ob_largest_float(const float *values, size_t count);

/// k = w·2^s to nearest, ties to even, for |k| < 2^31. `k` may be the same memory as `values`.
void ob_floats_to_fixed(const float *values, size_t count, int32_t s, int32_t *k);

/// w = k·2^−s, rounded once.
void ob_fixed_to_floats(const int32_t *k, size_t count, int32_t s, float *values);

/// Returns the largest |k|.
uint32_t ob_largest_magnitude(const int32_t *k, size_t count);
#endif
