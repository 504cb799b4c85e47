// Random bits and the vectors made of them (docs/reference/arithmetic.md).
#ifndef ONEBYTE_PHILOX_H
#define ONEBYTE_PHILOX_H
#include <stddef.h>
#include <stdint.h>

/// A tile is 16 consecutive Philox blocks: 64 words, 2048 signs or 256 bytes.
enum { OB_TILE_WORDS = 64, OB_TILE_SIGNS = 2048, OB_TILE_GAUSSIANS = 256 };

/// The name of a random vector: the Philox key (the run's seed) and the counter's words 1…3. Word 0 counts the blocks.
typedef struct {
    uint32_t key[2];
    uint32_t stream;
    uint32_t sample;
    uint32_t machine;
} ob_vector;

/// Computes Philox4x32-10 of one counter, in Random123's convention.
void ob_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t output[4]);

/// Writes elements first … first + count − 1 as ±1.
void ob_signs(const ob_vector *vector, uint64_t first, size_t count, int8_t *output);

/// Writes elements first … first + count − 1 from the table of the normal distribution, in units of 2⁻⁵.
void ob_gaussians(const ob_vector *vector, uint64_t first, size_t count, int8_t *output);

/// The table of the normal distribution: T[i] = round(32·Φ⁻¹((i + ½)/256)).
extern const int8_t ob_gaussian_table[256];

/// Writes b̃, made from the signs b and `components` basis vectors of 14 fraction bits, vector after vector. b and b̃ are `width` long and may be the
/// same memory. With `width` ≤ 2^20 and `components` ≤ 1024 all sums stay in Int64.
void ob_damp(const int8_t *signs, const int16_t *basis, size_t components, size_t width, int8_t *output);
#endif
