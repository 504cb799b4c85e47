// Products of small differences in 8-bit integers, for forward passes that stay close to one another.
#ifndef ONEBYTE_DIFFERENCES_H
#define ONEBYTE_DIFFERENCES_H
#include <stddef.h>
#include <stdint.h>

/// Number of outputs in a panel of packed weights.
enum { OB_DIFFERENCE_PANEL = 16 };

/// Returns the number of bytes of a quantised row of `inputs` values, which is also that of each output's packed weights: a multiple of 64.
size_t ob_difference_bytes(size_t inputs);

/// Returns the largest magnitudes of a quantised weight and of a quantised difference. They are 127 if the processor sums bytes in 32 bits (AMX,
/// VNNI, portable), and 31 if it sums them in 16 bits (AVX2): eight pairs of 62·31 fit there, but not even one pair of 254·127.
void ob_difference_limits(int *weight, int *difference);

/// Packs w (outputs × inputs, row-major) as round(w·limit/max|w|) with a maximum for each output.
///
/// packed: ⌈outputs/16⌉·16·ob_difference_bytes(inputs) bytes; scales, offsets: ⌈outputs/16⌉·16 values. Only the variant that packed the weights can
/// read them.
void ob_difference_pack(const float *w, size_t outputs, size_t inputs, int8_t *packed, float *scales, int32_t *offsets);

/// Quantises x − from as round((x − from)·limit/max|x − from|) + limit, in ob_difference_bytes(inputs) bytes.
///
/// Returns the value of one quantised unit. It is NaN if a difference is not finite, so that the products are not finite either.
float ob_difference_quantise(const float *x, const float *from, size_t inputs, uint8_t *quantised);

/// Row r of y = (adds ? y : 0) + from[r] + (the quantised row r)·wᵀ, for `rows` consecutive quantised rows.
void ob_difference_product(const uint8_t *quantised, const float *row_scales, size_t rows, const int8_t *packed, const float *scales,
                           const int32_t *offsets, size_t outputs, size_t inputs, const float *const *from, float *y, size_t y_stride,
                           int adds);

/// Returns the name of the variant in use: "amx", "avx512vnni", "avx2" or "portable". It is the best that the processor has, unless ONEBYTE_KERNELS
/// names another.
const char *ob_difference_variant(void);
#endif
