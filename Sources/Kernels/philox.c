#include <string.h>
#include "generic.h"

void ob_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t output[4]) {
    uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]};
    generic_philox(c, key[0], key[1]);
    memcpy(output, c, sizeof c);
}

/// Writes elements of whole tiles directly to the output, and the ends of the range through a buffer.
static void tiles_of_range(const ob_vector *vector, uint64_t first, size_t count, size_t tile_size, int8_t *output,
                           void (*make)(const ob_kernels *, const uint32_t *, int8_t *)) {
    const ob_kernels *kernels = ob_current();
    uint32_t words[OB_TILE_WORDS] __attribute__((aligned(64)));
    int8_t values[OB_TILE_SIGNS] __attribute__((aligned(64)));
    while (count) {
        size_t skip = first % tile_size, taken = tile_size - skip < count ? tile_size - skip : count;
        kernels->words(vector, (uint32_t)(first / tile_size), 1, words);
        if (taken == tile_size) {
            make(kernels, words, output);
        } else {
            make(kernels, words, values);
            memcpy(output, values + skip, taken);
        }
        first += taken, count -= taken, output += taken;
    }
}

static void signs_of_tile(const ob_kernels *kernels, const uint32_t *words, int8_t *output) {
    kernels->expand(words, OB_TILE_WORDS, output);
}

static void gaussians_of_tile(const ob_kernels *kernels, const uint32_t *words, int8_t *output) {
    // The bytes of a word count from the low one, so on a little-endian host the words' memory is the bytes.
    kernels->look_up((const uint8_t *)words, OB_TILE_GAUSSIANS, output);
}

void ob_signs(const ob_vector *vector, uint64_t first, size_t count, int8_t *output) {
    tiles_of_range(vector, first, count, OB_TILE_SIGNS, output, signs_of_tile);
}

void ob_gaussians(const ob_vector *vector, uint64_t first, size_t count, int8_t *output) {
    tiles_of_range(vector, first, count, OB_TILE_GAUSSIANS, output, gaussians_of_tile);
}

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the kernels take the words of a tile as little-endian bytes"
#endif

void ob_damp(const int8_t *signs, const int16_t *basis, size_t components, size_t width, int8_t *output) {
    (width < 1 << 16 ? ob_current() : &ob_portable)->damp(signs, basis, components, width, output);
}

const int8_t ob_gaussian_table[256] = {
    -92, -81, -75, -71, -67, -65, -63, -61, -59, -57, -56, -54, -53, -52, -51, -50,
    -49, -48, -47, -46, -45, -44, -43, -43, -42, -41, -40, -40, -39, -38, -38, -37,
    -37, -36, -35, -35, -34, -34, -33, -33, -32, -32, -31, -31, -30, -30, -29, -29,
    -28, -28, -27, -27, -26, -26, -25, -25, -25, -24, -24, -23, -23, -23, -22, -22,
    -21, -21, -21, -20, -20, -19, -19, -19, -18, -18, -18, -17, -17, -17, -16, -16,
    -15, -15, -15, -14, -14, -14, -13, -13, -13, -12, -12, -12, -11, -11, -11, -10,
    -10, -10,  -9,  -9,  -9,  -8,  -8,  -8,  -7,  -7,  -7,  -6,  -6,  -6,  -6,  -5,
     -5,  -5,  -4,  -4,  -4,  -3,  -3,  -3,  -2,  -2,  -2,  -1,  -1,  -1,   0,   0,
      0,   0,   1,   1,   1,   2,   2,   2,   3,   3,   3,   4,   4,   4,   5,   5,
      5,   6,   6,   6,   6,   7,   7,   7,   8,   8,   8,   9,   9,   9,  10,  10,
     10,  11,  11,  11,  12,  12,  12,  13,  13,  13,  14,  14,  14,  15,  15,  15,
     16,  16,  17,  17,  17,  18,  18,  18,  19,  19,  19,  20,  20,  21,  21,  21,
     22,  22,  23,  23,  23,  24,  24,  25,  25,  25,  26,  26,  27,  27,  28,  28,
     29,  29,  30,  30,  31,  31,  32,  32,  33,  33,  34,  34,  35,  35,  36,  37,
     37,  38,  38,  39,  40,  40,  41,  42,  43,  43,  44,  45,  46,  47,  48,  49,
     50,  51,  52,  53,  54,  56,  57,  59,  61,  63,  65,  67,  71,  75,  81,  92,
};
