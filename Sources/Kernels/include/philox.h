// Random bits and the vectors made of them (docs/reference/arithmetic.md).
#ifndef ONEBYTE_PHILOX_H
#define ONEBYTE_PHILOX_H
#include <stddef.h>
#include <stdint.h>

/// A tile is 16 consecutive Philox blocks: 64 words, 2048 signs or 256 bytes.
enum { OB_TILE_WORDS = 64, OB_TILE_SIGNS = 2048, OB_TILE_GAUSSIANS = 256 };

/// The name of a random vector: the Philox key (the run's seed) and the counter's words 1…3; word 0 counts the blocks.
typedef struct {
    uint32_t key[2];
    uint32_t stream;
    uint32_t sample;
    uint32_t machine;
} ob_vector;

/// Philox4x32-10 of one counter, as Random123 writes it.
void ob_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t output[4]);

/// Elements first … first + count − 1 as ±1.
void ob_signs(const ob_vector *vector, uint64_t first, size_t count, int8_t *output);

/// Elements first … first + count − 1 through the table of the normal distribution, in units of 2⁻⁵.
void ob_gaussians(const ob_vector *vector, uint64_t first, size_t count, int8_t *output);

/// T[i] = round(32·Φ⁻¹((i + ½)/256)).
extern const int8_t ob_gaussian_table[256];

/// b̃ from the signs b (both `width` long, may be the same memory) and `components` basis vectors of 14 fraction bits,
/// vector after vector. `width` ≤ 2^20, `components` ≤ 1024, so that nothing leaves Int64.
void ob_shape(const int8_t *signs, const int16_t *basis, size_t components, size_t width, int8_t *output);
#endif
