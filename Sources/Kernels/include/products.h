// Matrix products of the forward pass, y = x·wᵀ in F32, that read their weights in whatever form they are kept: floats, or fixed-point
// parameters, with or without a direction of a dense family. Panels of weights are made just before they are used and stay in the core's
// cache, so that no matrix is ever written out; what a layer does with a product's result is done while a tile of it is there.
// As floats.h: row-major, strides in floats, last bits may differ from one instruction set to another.
#ifndef ONEBYTE_PRODUCTS_H
#define ONEBYTE_PRODUCTS_H
#include <stddef.h>
#include <stdint.h>
#include "floats.h"

/// w of a product: outputs × inputs.
typedef struct {
    size_t outputs, inputs;
    /// From one row to the next; 0 where they follow each other.
    size_t stride;
    /// The weights, or null where `fixed` has them.
    const float *floats;
    /// Weights k of a tensor of value k·fixed_scale (2^−s, see `Parameters`).
    const int32_t *fixed;
    float fixed_scale;
    /// Null, or what the weights are perturbed by: direction_scale·direction, z of θ ± εz and ε.
    const int8_t *direction;
    float direction_scale;
} onebyte_matrix;

/// Rank-one terms of a product's rows: row r of y gets scales[r]·a[r], a vector of as many elements as there are outputs; none where
/// a[r] is null. With θ ± εabᵀ, scales[r] is ±ε(x[r]·b).
typedef struct {
    const int8_t *const *a;
    const float *scales;
} onebyte_rank1_terms;

/// Floats that a product of so many inputs needs as scratch, on a cache line boundary.
size_t onebyte_product_scratch(size_t inputs);

/// y = accumulate·y + x·wᵀ + terms for `rows` rows of x; the first `plus` of them see the weights with the direction added, the others with it
/// subtracted. `terms` may be null. y must not overlap x.
void onebyte_product(const float *x, size_t x_stride, size_t rows, size_t plus, const onebyte_matrix *w, const onebyte_rank1_terms *terms, float *y,
                     size_t y_stride, int accumulate, float *scratch);

/// y = activation(x·gateᵀ + gate_terms)·(x·upᵀ + up_terms), rows as above: both matrices are outputs × inputs, y has that many outputs. Either of the terms may
/// be null. y must not overlap x.
void onebyte_gated_product(int kind, const float *x, size_t x_stride, size_t rows, size_t plus, const onebyte_matrix *gate, const onebyte_matrix *up,
                           const onebyte_rank1_terms *gate_terms, const onebyte_rank1_terms *up_terms, float *y, size_t y_stride,
                           float *scratch);

/// Floats of scratch for the next, on a cache line boundary.
size_t onebyte_attention_scratch(size_t rows, size_t before, size_t head_size);

/// Causal attention of `rows` queries that follow `before` tokens over before + rows keys and values, all heads, as `onebyte_attend` does it for
/// one: query r sees before + r + 1 of them.
void onebyte_attend_rows(const float *q, size_t q_stride, size_t rows, const float *k, const float *v, size_t kv_stride, size_t before,
                         const onebyte_attention *form, float *scratch, float *out, size_t out_stride);

/// out[r] = scale·Σ x[r]ᵢ·bᵢ for `rows` rows of n.
void onebyte_dots_i8(const float *x, size_t stride, size_t rows, const int8_t *b, size_t n, float scale, float *out);
#endif
