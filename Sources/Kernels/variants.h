// The functions that each variant of the kernels provides. All variants give the same bits.
#ifndef ONEBYTE_VARIANTS_H
#define ONEBYTE_VARIANTS_H
#include "kernels.h"

/// Number of directions that sum_signs and sum_gaussians take at a time. Their words, 64·256 bytes, stay in L1.
enum { OB_FUSED_MAX = 64 };

/// A step k −= round(M·Σ·2^−t), halves upwards, or k += … if `sign` is −1; 0 < t < 63.
typedef struct {
    uint32_t multiplier;
    int32_t t;
    int32_t sign;
    /// Set if |Σ| < 2^15 and M·Σ + 2^(t−1) fits Int32. Then lanes of 32 bits are enough for a step that subtracts.
    int32_t is_narrow;
} ob_shift;

/// Memory that is needed next. A few lines of it at a time are fetched between other work, because many at once would wait for each other.
typedef struct {
    const int32_t *next, *end;
} ob_ahead;

/// OB_LINES_OF_WORDS lines are fetched while the words of a direction are made.
enum { OB_LINE_ELEMENTS = 16, OB_LINES_OF_WORDS = 4 };

static inline void ob_fetch(ob_ahead *ahead, size_t lines) {
    for (; lines && ahead->next < ahead->end; lines--, ahead->next += OB_LINE_ELEMENTS) __builtin_prefetch(ahead->next, 1);
}

/// Number of quads whose sums take less time than fetching k.
enum { OB_SHORT_QUADS = 8 };

/// Sums of outer products: the matrix product over the directions.
typedef struct {
    /// Bytes of one quad of directions over one panel of 16 elements.
    size_t quad_bytes;
    /// Number of bytes from one quad of a's panel to the next.
    size_t a_quad_bytes;
    void (*pack)(const int8_t *vectors, size_t stride, size_t width, const int8_t *q, size_t quad, size_t quads,
                 void *packed);
    /// Called on the thread before the sums of a segment of this many quads; null if no preparation is needed.
    void (*begin)(size_t quads);
    /// Called after the last segment.
    void (*end)(void);
    /// Writes the values from which the sums of a's panel's 16 rows over `count` quads start, if b's are packed with an offset; null if they start
    /// from 0.
    void (*starts)(const char *a, size_t count, int32_t *starts);
    /// sums[r·64 + c] (+)= starts[r] + Σ a·b over `count` quads, for `rows` ≤ 16 rows of a's panel and `panels` ≤ 4 panels of b, which are `b_stride`
    /// bytes apart. It overwrites the sums unless `adds`. All 16 rows may be written.
    void (*sums)(const char *a, const char *b, size_t b_stride, size_t panels, size_t rows, size_t count,
                 const int32_t *starts, int32_t *sums, int adds);
    /// `sums` and step_shift in one, for a multiple of 4 rows, up to all of a block; null if there is no such kernel. The sums never leave the
    /// registers. They add to `sums`, laid out as above, unless that is null. a's and b's next panels are `stride` bytes further, the next starts
    /// `panel_starts`.
    void (*step)(const char *a, const char *b, size_t stride, size_t panels, size_t rows, size_t count, const int32_t *starts,
                 size_t panel_starts, const int32_t *sums, int32_t *k, size_t k_stride, const ob_shift *shift);
    /// Number of quads from which on `step` itself fetches k before it is used; 0 if it never does.
    size_t ahead_quads;
} ob_rank1;

typedef struct {
    const char *name;
    void (*words)(const ob_vector *vector, uint32_t first_tile, size_t tiles, uint32_t *words);
    /// Makes the words of one tile of each direction; direction i's are at words + 64·i. Meanwhile it may fetch some of what is ahead.
    void (*fused_words)(const uint32_t key[2], uint32_t stream, const ob_direction *directions, size_t count, uint32_t tile,
                        uint32_t *words, ob_ahead *ahead);
    /// Writes 32·count signs as ±1.
    void (*expand)(const uint32_t *words, size_t count, int8_t *signs);
    /// Maps bytes through ob_gaussian_table. Input and output may be the same memory. count is a multiple of 64.
    void (*look_up)(const uint8_t *bytes, size_t count, int8_t *output);
    /// ob_damp for width < 2^16, for which c_k fits Int32.
    void (*damp)(const int8_t *signs, const int16_t *basis, size_t components, size_t width, int8_t *output);
    /// sums[0..<2048] += Σ q·z of up to OB_FUSED_MAX directions; direction i's words are words[64·i ..].
    void (*sum_signs)(const uint32_t *words, const int32_t *q, size_t count, int32_t *sums);
    /// `sum_signs` and `step_shift` in one for a whole tile and a narrow shift. The sums never leave the registers. Null if there is no such kernel.
    /// Meanwhile it may fetch some of what is ahead.
    void (*step_signs)(const uint32_t *words, const int32_t *q, size_t count, int32_t *k, const ob_shift *shift, ob_ahead *ahead);
    /// sums[0..<256] += Σ q·T[byte] of up to OB_FUSED_MAX directions; direction i's words are words[64·i ..].
    void (*sum_gaussians)(const uint32_t *words, const int32_t *q, size_t count, int32_t *sums);
    /// k −= ((M·Σ + 2^(t−1)) >> t) ^ sign − sign for rows of `count` elements.
    void (*step_shift)(int32_t *k, size_t k_stride, const int32_t *sums, size_t sums_stride, size_t rows, size_t count,
                       const ob_shift *shift);
    const ob_rank1 *rank1;
    /// For rounds of OB_LONG_QUADS quads or more; null if `rank1` is the best for them too.
    const ob_rank1 *long_rank1;
    void (*to_floats)(const int32_t *k, size_t count, float scale, float *values);
    /// sums[j] += signs[j]·values[j], signs being ±1.
    void (*add_signed)(const int32_t *values, const int8_t *signs, size_t count, int32_t *sums);
    /// ob_hadamard and ob_hadamard_doubles.
    void (*hadamard)(int32_t *values, uint32_t log_size);
    void (*hadamard_doubles)(double *values, uint32_t log_size);
} ob_kernels;

typedef struct ob_float_kernels ob_float_kernels;
typedef struct ob_difference_kernels ob_difference_kernels;
typedef struct ob_quantised_kernels ob_quantised_kernels;

/// What one instruction set runs: the kernels that are fastest on it.
typedef struct {
    const char *name;
    /// The integers that decide the parameters.
    const ob_kernels *integers;
    /// The floats of the forward pass (floats.c).
    const ob_float_kernels *floats;
    /// Products of small differences in 8 bits (differences.c).
    const ob_difference_kernels *differences;
    /// Products in 8 bits with a scale for each block of inputs (quantised.c).
    const ob_quantised_kernels *quantised;
    void (*dequantise)(int type, const void *source, float *out, size_t count);
} ob_variant;

extern const ob_kernels ob_portable;
extern const ob_float_kernels ob_portable_floats;
extern const ob_difference_kernels ob_portable_differences;
extern const ob_quantised_kernels ob_portable_quantised;
#if defined(__x86_64__)
extern const ob_kernels ob_avx2, ob_avx512, ob_avx512vnni, ob_avx512vbmi, ob_amx;
extern const ob_float_kernels ob_avx2_floats, ob_avx512_floats;
extern const ob_difference_kernels ob_avx2_differences, ob_avx512vnni_differences, ob_amx_differences;
extern const ob_quantised_kernels ob_avx2_quantised, ob_avx512vnni_quantised;
void ob_dequantise_avx2(int type, const void *source, float *out, size_t count);
void ob_dequantise_avx512(int type, const void *source, float *out, size_t count);
#elif defined(__aarch64__)
extern const ob_kernels ob_neon, ob_neondot;
extern const ob_quantised_kernels ob_neondot_quantised;
#endif


/// Applies a round's step to its sums over elements ±1, whose |Σ| is at most Σ|q|.
void ob_apply_narrow_step(int32_t *k, const int32_t *sums, size_t count, const ob_round *round);

/// The variant in use on this thread.
const ob_variant *ob_current_variant(void);

/// The best variant that this processor has, whichever is in use.
const ob_variant *ob_best_variant(void);

/// The integer kernels in use on this thread.
static inline const ob_kernels *ob_current(void) { return ob_current_variant()->integers; }

#endif
