#include "generic.h"

static void words(const ob_vector *vector, uint32_t first_tile, size_t tiles, uint32_t *output) {
    for (size_t tile = 0; tile < tiles; tile++)
        for (uint32_t block = 0; block < 16; block++) {
            uint32_t c[4] = {16 * (first_tile + (uint32_t)tile) + block, vector->stream, vector->sample, vector->machine};
            generic_philox(c, vector->key[0], vector->key[1]);
            for (int t = 0; t < 4; t++) output[64 * tile + 16 * t + block] = c[t];
        }
}

static void fused_words(const uint32_t key[2], uint32_t stream, const ob_direction *directions, size_t count,
                        uint32_t tile, uint32_t *output, ob_ahead *ahead) {
    (void)ahead;
    for (size_t i = 0; i < count; i++) {
        ob_vector vector = {{key[0], key[1]}, stream, directions[i].sample, directions[i].machine};
        words(&vector, tile, 1, output + OB_TILE_WORDS * i);
    }
}

static void expand(const uint32_t *words, size_t count, int8_t *signs) {
    for (size_t i = 0; i < count; i++)
        for (int b = 0; b < 32; b++) signs[32 * i + b] = (int8_t)(2 * (words[i] >> b & 1) - 1);
}

static void look_up(const uint8_t *bytes, size_t count, int8_t *output) {
    for (size_t i = 0; i < count; i++) output[i] = ob_gaussian_table[bytes[i]];
}

static void damp(const int8_t *signs, const int16_t *basis, size_t components, size_t width, int8_t *output) {
    generic_damp(signs, basis, components, width, output);
}

static void sum_signs(const uint32_t *words, const int32_t *q, size_t count, int32_t *sums) {
    int16_t narrow[OB_TILE_SIGNS] = {0};  // |Σ| ≤ 64·127
    for (size_t i = 0; i < count; i++) {
        int8_t signs[OB_TILE_SIGNS];
        expand(words + OB_TILE_WORDS * i, OB_TILE_WORDS, signs);
        int16_t byte = (int16_t)q[i];
        for (size_t j = 0; j < OB_TILE_SIGNS; j++) narrow[j] = (int16_t)(narrow[j] + byte * signs[j]);
    }
    for (size_t j = 0; j < OB_TILE_SIGNS; j++) sums[j] += narrow[j];
}

static void sum_gaussians(const uint32_t *words, const int32_t *q, size_t count, int32_t *sums) {
    for (size_t i = 0; i < count; i++) {
        int8_t z[OB_TILE_GAUSSIANS];
        look_up((const uint8_t *)(words + OB_TILE_WORDS * i), OB_TILE_GAUSSIANS, z);
        int16_t byte = (int16_t)q[i];
        for (size_t j = 0; j < OB_TILE_GAUSSIANS; j++) sums[j] += (int16_t)(byte * z[j]);
    }
}

static void step_shift(int32_t *k, size_t k_stride, const int32_t *sums, size_t sums_stride, size_t rows,
                       size_t count, const ob_shift *shift) {
    for (size_t r = 0; r < rows; r++)
        generic_step_shift(k + r * k_stride, sums + r * sums_stride, count, shift);
}

// Rank-1: a panel's quad is four vectors of 16 elements, one after the other.

static void pack(const int8_t *vectors, size_t stride, size_t width, const int8_t *q, size_t quad, size_t quads,
                 void *packed) {
    int8_t *output = (int8_t *)packed + 64 * quad;
    for (size_t start = 0; start < width; start += OB_PANEL, output += 64 * quads)
        for (size_t i = 0; i < OB_QUAD; i++) {
            int8_t factor = q ? q[i] : 1;
            for (size_t j = 0; j < OB_PANEL; j++)
                output[OB_PANEL * i + j] = (int8_t)(vectors[i * stride + start + j] * factor);
        }
}

static void rank1_sums(const char *a, const char *b, size_t b_stride, size_t panels, size_t rows, size_t count,
                       const int32_t *starts, int32_t *sums, int adds) {
    (void)starts;
    for (size_t r = 0; r < rows; r++)
        for (size_t p = 0; p < panels; p++) {
            int32_t total[OB_PANEL] = {0};
            const int8_t *left = (const int8_t *)a + r, *right = (const int8_t *)b + p * b_stride;
            for (size_t g = 0; g < count; g++, left += 64, right += 64)
                for (size_t i = 0; i < OB_QUAD; i += 2) {
                    int16_t first = left[OB_PANEL * i], second = left[OB_PANEL * (i + 1)];
                    for (size_t c = 0; c < OB_PANEL; c++)  // two products of at most 127·127 each fit 16 bits
                        total[c] += (int16_t)(first * right[OB_PANEL * i + c] + second * right[OB_PANEL * (i + 1) + c]);
                }
            int32_t *output = sums + r * OB_BLOCK_COLUMNS + p * OB_PANEL;
            for (size_t c = 0; c < OB_PANEL; c++) output[c] = adds ? output[c] + total[c] : total[c];
        }
}

static void to_floats(const int32_t *k, size_t count, float scale, float *values) {
    generic_to_floats(k, count, scale, values);
}

static void add_signed(const int32_t *values, const int8_t *signs, size_t count, int32_t *sums) {
    generic_add_signed(values, signs, count, sums);
}

static void hadamard(int32_t *values, uint32_t log_size) { generic_hadamard(values, log_size); }

static void hadamard_doubles(double *values, uint32_t log_size) { generic_hadamard_doubles(values, log_size); }

static const ob_rank1 rank1 = {.quad_bytes = 64, .a_quad_bytes = 64, .pack = pack, .sums = rank1_sums};

const ob_kernels ob_portable = {
    .name = "portable",
    .words = words,
    .fused_words = fused_words,
    .expand = expand,
    .look_up = look_up,
    .damp = damp,
    .sum_signs = sum_signs,
    .sum_gaussians = sum_gaussians,
    .step_shift = step_shift,
    .rank1 = &rank1,
    .to_floats = to_floats,
    .add_signed = add_signed,
    .hadamard = hadamard,
    .hadamard_doubles = hadamard_doubles,
};
