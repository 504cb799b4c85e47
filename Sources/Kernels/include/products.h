// Matrix products of the forward pass, y = x·wᵀ in F32. They read their weights in the form in which they are kept: floats, or fixed-point
// parameters, with or without a direction of a dense family. Panels of weights are made just before they are used and stay in the core's cache, so no
// matrix is ever written to memory. A layer's work on a product's result is done on each tile as soon as it is computed. As in floats.h, matrices are
// row-major, strides are in floats, and the last bits may differ from one instruction set to another.
#ifndef ONEBYTE_PRODUCTS_H
#define ONEBYTE_PRODUCTS_H
#include <stddef.h>
#include <stdint.h>
#include "floats.h"

/// The matrix w of a product: outputs × inputs.
typedef struct {
    size_t outputs, inputs;
    /// Number of floats from one row to the next; 0 if the rows follow each other without gaps.
    size_t stride;
    /// The weights; null if `fixed` has them.
    const float *floats;
    /// The weights in fixed point: their values are k·fixed_scale (2^−s, see `Parameters`).
    const int32_t *fixed;
    float fixed_scale;
    /// Null, or the direction z of θ ± εz: the weights are perturbed by ± direction_scale·direction.
    const int8_t *direction;
    float direction_scale;
} ob_matrix;

/// Rank-one terms of a product's rows: scales[r]·a[r] is added to row r of y. a[r] has as many elements as there are outputs; null: no term. For θ ±
/// εabᵀ, scales[r] is ±ε(x[r]·b).
typedef struct {
    const int8_t *const *a;
    const float *scales;
} ob_rank1_terms;

/// Returns the number of floats of scratch that a product with this many inputs needs. Scratch begins on a cache line boundary.
size_t ob_product_scratch(size_t inputs);

/// y = accumulate·y + x·wᵀ + terms for `rows` rows of x. For the first `plus` rows the direction is added to the weights, for the others it is
/// subtracted. `terms` may be null. y must not overlap x.
void ob_product(const float *x, size_t x_stride, size_t rows, size_t plus, const ob_matrix *w, const ob_rank1_terms *terms, float *y,
                     size_t y_stride, int accumulate, float *scratch);

/// y = activation(x·gateᵀ + gate_terms)·(x·upᵀ + up_terms), with rows as above. Both matrices are outputs × inputs, and y has `outputs` columns. Each
/// of the terms may be null. y must not overlap x.
void ob_gated_product(int kind, const float *x, size_t x_stride, size_t rows, size_t plus, const ob_matrix *gate, const ob_matrix *up,
                           const ob_rank1_terms *gate_terms, const ob_rank1_terms *up_terms, float *y, size_t y_stride,
                           float *scratch);

/// Returns the number of floats of scratch that `ob_attend_rows` needs. Scratch begins on a cache line boundary.
size_t ob_attention_scratch(size_t rows, size_t before, size_t head_size);

/// Causal attention of `rows` queries that follow `before` tokens, over before + rows keys and values, for all heads. Each query is computed as in
/// `ob_attend`: query r sees before + r + 1 of the keys.
void ob_attend_rows(const float *q, size_t q_stride, size_t rows, const float *k, const float *v, size_t kv_stride, size_t before,
                         const ob_attention *form, float *scratch, float *out, size_t out_stride);

/// out[r] = scale·Σ x[r]ᵢ·bᵢ for `rows` rows of n.
void ob_dots_i8(const float *x, size_t stride, size_t rows, const int8_t *b, size_t n, float scale, float *out);
#endif
