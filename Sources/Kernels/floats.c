// Run-time dispatch of the float kernels: one set of bodies (floats_body.h), compiled for each instruction set.
#include "variants.h"
#include <stdatomic.h>
#include <unistd.h>

struct ob_float_kernels {
    const char *name;
    void (*rms_norm)(const float *, const float *, float *, size_t, size_t, float);
    void (*layer_norm)(const float *, const float *, const float *, float *, size_t, size_t, float);
    void (*rope)(float *, size_t, const int32_t *, size_t, size_t, size_t, size_t, const float *, const float *);
    void (*rope_pairs)(float *, size_t, const int32_t *, size_t, size_t, size_t, size_t, const float *, const float *);
    void (*attend)(const float *, const float *, size_t, const float *, size_t, size_t, const ob_attention *, float *, float *);
    void (*softmax)(float *, size_t);
    void (*activate)(float *, size_t, int);
    void (*softcap)(float *, size_t, float);
    void (*xielu)(float *, size_t, float, float, float, float);
    void (*gated_rank1)(int, const float *, const int8_t *, float, const float *, const int8_t *, float, float *, size_t);
    float (*dot_i8)(const float *, const int8_t *, size_t);
    float (*dot)(const float *, const float *, size_t);
    void (*add_scaled_i8)(float *, const int8_t *, float, size_t);
    void (*add_scaled)(float *, const float *, float, size_t);
    void (*sum_scaled_i8)(const float *, const int8_t *, float, float *, size_t);
    void (*log_sum_exp_parts)(const float *, size_t, float *, float *);
    size_t (*multiply_adds)(size_t, float *);
    void (*product)(const float *, size_t, size_t, size_t, const ob_matrix *, const ob_rank1_terms *, float *, size_t, int, float *);
    void (*gated_product)(int, const float *, size_t, size_t, size_t, const ob_matrix *, const ob_matrix *, const ob_rank1_terms *,
                           const ob_rank1_terms *, float *, size_t, float *);
    void (*attend_rows)(const float *, size_t, size_t, const float *, const float *, size_t, size_t, const ob_attention *, float *, float *, size_t);
    void (*dots_i8)(const float *, size_t, size_t, const int8_t *, size_t, float, float *);
};

// The sizes of the parts in which a product is computed.
struct product_blocks {
    size_t depth, outputs, rows;  // outputs: a multiple of PRODUCT_OUTPUTS; rows: no less than a tile's
};
// Number of floats from one row of scores to the next.
#define ATTENTION_STRIDE(keys) (((keys) + 31) / 16 * 16)
enum { PRODUCT_DEPTH_MAX = 2048, PRODUCT_OUTPUTS = 32, PRODUCT_ROWS = 14, ATTENTION_BLOCK = 64 };

// Rows that see the same weights, in tiles of sizes as equal as possible: a tile of few rows would wait for its own sums.
struct product_side {
    float sign;
    size_t first, rows, tiles;
};

static inline struct product_side product_side(int side, size_t rows, size_t plus, size_t tile_rows) {
    const size_t own = side ? rows - plus : plus;
    return (struct product_side){side ? -1 : 1, side ? plus : 0, own, (own + tile_rows - 1) / tile_rows};
}

// Returns the row at which tile t begins, or, for t = tiles, the row after the last tile.
static inline size_t product_row(struct product_side side, size_t t) { return side.first + t * side.rows / side.tiles; }

static size_t second_level_cache(void) {
    static _Atomic size_t known;
    size_t bytes = atomic_load_explicit(&known, memory_order_relaxed);
    if (!bytes) {
        long told = sysconf(_SC_LEVEL2_CACHE_SIZE);
        // Some machines report nothing, and some share a large cache.
        bytes = told <= 0 ? 512 << 10 : told > 2 << 20 ? 2 << 20 : (size_t)told;
        atomic_store_explicit(&known, bytes, memory_order_relaxed);
    }
    return bytes;
}

// Gives a little more than a quarter of the second-level cache to panels of weights, and a quarter to the rows that are multiplied by them.
static struct product_blocks product_blocks(size_t inputs, size_t depth_max) {
    const size_t parts = inputs > depth_max ? (inputs + depth_max - 1) / depth_max : 1;
    struct product_blocks blocks = {.depth = (inputs + parts - 1) / parts};
    const size_t floats = second_level_cache() / sizeof(float), depth = blocks.depth ? blocks.depth : 1;
    blocks.outputs = floats * 9 / 32 / depth / PRODUCT_OUTPUTS * PRODUCT_OUTPUTS;
    if (blocks.outputs < PRODUCT_OUTPUTS) blocks.outputs = PRODUCT_OUTPUTS;
    if (blocks.outputs > 8 * PRODUCT_OUTPUTS) blocks.outputs = 8 * PRODUCT_OUTPUTS;
    blocks.rows = floats / 4 / depth;
    if (blocks.rows < PRODUCT_ROWS) blocks.rows = PRODUCT_ROWS;
    return blocks;
}

#if defined(__x86_64__)
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"), min_vector_width(512)))
#define NAME(x) avx512_##x
#define TABLE ob_avx512_floats
#define TABLE_NAME "avx512"
#define LANES 16
#define TILE_ROWS 14
#define LOW(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define HIGH(a, b) __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#define FMA(a, b, c) __builtin_elementwise_fma(a, b, c)
#include "floats_body.h"
#undef TARGET
#undef NAME
#undef TABLE
#undef TABLE_NAME
#undef LANES
#undef TILE_ROWS
#undef LOW
#undef HIGH
#undef FMA

#define TARGET __attribute__((target("avx2,fma")))
#define NAME(x) avx2_##x
#define TABLE ob_avx2_floats
#define TABLE_NAME "avx2"
#define LANES 8
#define TILE_ROWS 6
#define LOW(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define HIGH(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#define FMA(a, b, c) __builtin_elementwise_fma(a, b, c)
#include "floats_body.h"
#undef TARGET
#undef NAME
#undef TABLE
#undef TABLE_NAME
#undef LANES
#undef TILE_ROWS
#undef LOW
#undef HIGH
#undef FMA
#endif

#define TARGET
#define NAME(x) portable_##x
#define TABLE ob_portable_floats
#define LANES 4
#define LOW(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define HIGH(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#if defined(__aarch64__)
#define TABLE_NAME "neon"
#define TILE_ROWS 12
#define FMA(a, b, c) __builtin_elementwise_fma(a, b, c)
#else
#define TABLE_NAME "portable"
#define TILE_ROWS 6
#define FMA(a, b, c) ((a) * (b) + (c))  // SSE2 has no fused multiply-add; libm's would be a call for each lane
#endif
#include "floats_body.h"

static const ob_float_kernels *kernels(void) { return ob_current_variant()->floats; }

const char *ob_float_variant(void) { return kernels()->name; }

void ob_rms_norm(const float *x, const float *weight, float *y, size_t rows, size_t n, float epsilon) {
    kernels()->rms_norm(x, weight, y, rows, n, epsilon);
}
void ob_layer_norm(const float *x, const float *weight, const float *bias, float *y, size_t rows, size_t n, float epsilon) {
    kernels()->layer_norm(x, weight, bias, y, rows, n, epsilon);
}
void ob_rope(float *x, size_t stride, const int32_t *positions, size_t rows, size_t heads, size_t head_size, size_t width, int pairs,
                  const float *cosine, const float *sine) {
    (pairs ? kernels()->rope_pairs : kernels()->rope)(x, stride, positions, rows, heads, head_size, width, cosine, sine);
}
void ob_attend(const float *q, const float *k, size_t k_stride, const float *v, size_t v_stride, size_t count,
                    const ob_attention *form, float *scores, float *out) {
    kernels()->attend(q, k, k_stride, v, v_stride, count, form, scores, out);
}
void ob_softmax(float *x, size_t n) { kernels()->softmax(x, n); }
void ob_activate(float *x, size_t n, int kind) { kernels()->activate(x, n, kind); }
void ob_xielu(float *x, size_t n, float plus, float minus, float beta, float epsilon) { kernels()->xielu(x, n, plus, minus, beta, epsilon); }
void ob_softcap(float *x, size_t n, float cap) { kernels()->softcap(x, n, cap); }
void ob_gated_rank1(int kind, const float *gate, const int8_t *a_gate, float gate_scale, const float *up, const int8_t *a_up,
                         float up_scale, float *out, size_t n) {
    kernels()->gated_rank1(kind, gate, a_gate, gate_scale, up, a_up, up_scale, out, n);
}
float ob_dot_i8(const float *x, const int8_t *b, size_t n) { return kernels()->dot_i8(x, b, n); }
float ob_dot(const float *x, const float *y, size_t n) { return kernels()->dot(x, y, n); }
void ob_add_scaled_i8(float *y, const int8_t *a, float scale, size_t n) { kernels()->add_scaled_i8(y, a, scale, n); }
void ob_add_scaled(float *y, const float *x, float scale, size_t n) { kernels()->add_scaled(y, x, scale, n); }
void ob_sum_scaled_i8(const float *x, const int8_t *a, float scale, float *y, size_t n) {
    kernels()->sum_scaled_i8(x, a, scale, y, n);
}
size_t ob_product_scratch(size_t inputs) {
    const struct product_blocks plain = product_blocks(inputs, PRODUCT_DEPTH_MAX), gated = product_blocks(inputs, inputs);
    const size_t a = plain.outputs * plain.depth, b = gated.outputs * gated.depth;
    return a > b ? a : b;
}
void ob_product(const float *x, size_t x_stride, size_t rows, size_t plus, const ob_matrix *w, const ob_rank1_terms *terms, float *y,
                     size_t y_stride, int accumulate, float *scratch) {
    kernels()->product(x, x_stride, rows, plus, w, terms, y, y_stride, accumulate, scratch);
}
void ob_gated_product(int kind, const float *x, size_t x_stride, size_t rows, size_t plus, const ob_matrix *gate, const ob_matrix *up,
                           const ob_rank1_terms *gate_terms, const ob_rank1_terms *up_terms, float *y, size_t y_stride,
                           float *scratch) {
    kernels()->gated_product(kind, x, x_stride, rows, plus, gate, up, gate_terms, up_terms, y, y_stride, scratch);
}
size_t ob_attention_scratch(size_t rows, size_t before, size_t head_size) {
    return ob_product_scratch(head_size) + rows * ATTENTION_STRIDE(before + rows);
}
void ob_attend_rows(const float *q, size_t q_stride, size_t rows, const float *k, const float *v, size_t kv_stride, size_t before,
                         const ob_attention *form, float *scratch, float *out, size_t out_stride) {
    kernels()->attend_rows(q, q_stride, rows, k, v, kv_stride, before, form, scratch, out, out_stride);
}
void ob_dots_i8(const float *x, size_t stride, size_t rows, const int8_t *b, size_t n, float scale, float *out) {
    kernels()->dots_i8(x, stride, rows, b, n, scale, out);
}
void ob_log_sum_exp_parts(const float *x, size_t n, float *largest, float *sum) {
    kernels()->log_sum_exp_parts(x, n, largest, sum);
}
size_t ob_multiply_adds(size_t steps, float *sink) {
    // The processor's best variant, whichever was asked for.
    return ob_best_variant()->floats->multiply_adds(steps, sink);
}
