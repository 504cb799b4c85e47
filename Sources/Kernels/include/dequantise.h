// Converts stored weights to F32. The block formats are ggml's; safetensors has F16 and BF16 too.
//
// The formats' products of quantum and scale are exact in F32 (at most 4 + 11 significant bits for Q4_1, 21 for Q4_K). So a fused multiply-add and a
// multiplication followed by an addition give the same bits, and all instruction sets here do too.
#ifndef ONEBYTE_DEQUANTISE_H
#define ONEBYTE_DEQUANTISE_H
#include <stddef.h>
#include <stdint.h>

// The values are ggml's type numbers. The last two are of safetensors alone: 8-bit floats of 4 exponent and 3 mantissa bits without infinities, and of
// 5 and 2 bits (Micikevicius et al., arXiv 2209.05433).
enum ob_element_type {
    OB_F32 = 0, OB_F16 = 1, OB_Q4_0 = 2, OB_Q4_1 = 3, OB_Q5_0 = 6, OB_Q5_1 = 7, OB_Q8_0 = 8, OB_Q2_K = 10, OB_Q3_K = 11,
    OB_Q4_K = 12, OB_Q5_K = 13, OB_Q6_K = 14, OB_IQ4_NL = 20, OB_IQ4_XS = 23, OB_BF16 = 30, OB_MXFP4 = 39, OB_F8_E4M3 = 1000, OB_F8_E5M2 = 1001
};

// Returns the number of elements in a block of the format (1 for the plain ones); 0 for a type that is not in the list above.
size_t ob_block_elements(int type);
// Returns the number of bytes of a block; 0 for a type that is not in the list above.
size_t ob_block_bytes(int type);

// Converts `count` elements, a multiple of the block's, from `source` (any alignment) to `out`. It works on little-endian hosts only. For a type that
// is not in the list it writes nothing.
void ob_dequantise(int type, const void *source, float *out, size_t count);
// The same on the plain C path that every processor has, for tests that compare the paths.
void ob_dequantise_portable(int type, const void *source, float *out, size_t count);

// Convert F32 to BF16 and F16, to nearest, ties to even. Overflow goes to infinity, and NaN stays NaN.
void ob_floats_to_bf16(const float *source, uint16_t *out, size_t count);
void ob_floats_to_f16(const float *source, uint16_t *out, size_t count);
#endif
