// Orthogonal samples. A machine's samples come in blocks of N = 2^log_size. Their directions are the rows of a Sylvester-Hadamard matrix, whose order
// and column signs are random for each machine and block (docs/reference/arithmetic.md, "Adapters and orthogonal samples").
#ifndef ONEBYTE_ORTHOGONAL_H
#define ONEBYTE_ORTHOGONAL_H
#include <stddef.h>
#include <stdint.h>
#include "update.h"

/// The parameters that the blocks of one run share.
typedef struct {
    uint32_t key[2];
    /// Philox's streams of the column signs and of the order of the rows.
    uint32_t sign_stream, order_stream;
    /// log2 N ≤ 24.
    uint32_t log_size;
    /// d ≤ N: only the first d columns are used.
    size_t dimensions;
} ob_blocks;

/// Returns the row of the Hadamard matrix that a sample's direction is made of.
uint32_t ob_block_row(const ob_blocks *blocks, uint32_t machine, uint32_t sample);

/// Writes coordinates first … first + count − 1 of a sample's direction, ±1.
void ob_block_direction(const ob_blocks *blocks, uint32_t machine, uint32_t sample, uint64_t first, size_t count, int8_t *output);

/// The largest number of directions in a round. The sums of this many bytes stay in 32 bits: 127·2^24 < 2^31.
enum { OB_BLOCK_DIRECTIONS_MAX = 1 << 24 };

/// Applies the rounds, each of at most OB_BLOCK_DIRECTIONS_MAX directions, to the d coordinates k. It is fast if samples of one block follow one
/// another; the result is the same in any order. Scratch: `block` of N numbers, `sums` of d numbers.
void ob_update_blocks(const ob_blocks *blocks, const ob_round *rounds, size_t round_count, int32_t *block, int32_t *sums, int32_t *k);

/// projections[i] = Σ_j z_j·gradient[j] for samples sample … sample + count − 1, all of one block. Scratch: `block` of N numbers.
void ob_block_projections(const ob_blocks *blocks, uint32_t machine, uint32_t sample, size_t count, const double *gradient, double *block,
                          double *projections);

/// Returns Σ_j signs[j]·values[j], with signs ±1.
double ob_signed_sum(const int8_t *signs, const double *values, size_t count);

/// The fast Walsh-Hadamard transform in place: values[i] ← Σ_j (−1)^popcount(i AND j)·values[j] over 2^log_size values. In integers it is exact as
/// long as Σ|values[j]| < 2^31.
void ob_hadamard(int32_t *values, uint32_t log_size);

/// The same in floating point. Every variant adds in the same order.
void ob_hadamard_doubles(double *values, uint32_t log_size);
#endif
