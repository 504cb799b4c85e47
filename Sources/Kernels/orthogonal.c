#include <string.h>
#include "variants.h"

void ob_hadamard(int32_t *values, uint32_t log_size) { ob_current()->hadamard(values, log_size); }

void ob_hadamard_doubles(double *values, uint32_t log_size) { ob_current()->hadamard_doubles(values, log_size); }

/// The order of a block's rows: sample i of the block has row (i·factor + offset) mod N. The factor is odd, so no row comes twice.
typedef struct {
    uint32_t factor, offset;
} row_order;

static row_order order_of(const ob_blocks *blocks, uint32_t machine, uint32_t block) {
    const uint32_t counter[4] = {0, blocks->order_stream, block, machine};
    uint32_t words[4];
    ob_philox(counter, blocks->key, words);
    return (row_order){words[0] | 1, words[1]};
}

static uint32_t row_of(const ob_blocks *blocks, row_order order, uint32_t sample) {
    return (sample * order.factor + order.offset) & (((uint32_t)1 << blocks->log_size) - 1);
}

static ob_vector signs_of(const ob_blocks *blocks, uint32_t machine, uint32_t block) {
    return (ob_vector){{blocks->key[0], blocks->key[1]}, blocks->sign_stream, block, machine};
}

uint32_t ob_block_row(const ob_blocks *blocks, uint32_t machine, uint32_t sample) {
    return row_of(blocks, order_of(blocks, machine, sample >> blocks->log_size), sample);
}

void ob_block_direction(const ob_blocks *blocks, uint32_t machine, uint32_t sample, uint64_t first, size_t count, int8_t *output) {
    enum { GROUP = 64 };  // columns whose low bits take all their values
    const uint32_t row = ob_block_row(blocks, machine, sample);
    const ob_vector vector = signs_of(blocks, machine, sample >> blocks->log_size);
    ob_signs(&vector, first, count, output);
    int8_t low[GROUP];
    for (uint32_t j = 0; j < GROUP; j++) low[j] = __builtin_parity(row & j) ? -1 : 1;
    for (size_t i = 0; i < count;) {
        const uint32_t column = (uint32_t)(first + i), within = column % GROUP;
        const int8_t high = __builtin_parity(row & (column - within)) ? -1 : 1;
        const size_t n = count - i < GROUP - within ? count - i : GROUP - within;
        for (size_t j = 0; j < n; j++) output[i + j] = (int8_t)(output[i + j] * low[within + j] * high);
        i += n;
    }
}

/// Adds Σ q·z of the leading directions that belong to one block. Returns how many these are.
static size_t add_block(const ob_blocks *blocks, const ob_direction *directions, size_t count, int32_t *block, int32_t *sums) {
    const ob_kernels *kernels = ob_current();
    const size_t size = (size_t)1 << blocks->log_size;
    const uint32_t machine = directions->machine, number = directions->sample >> blocks->log_size;
    const row_order order = order_of(blocks, machine, number);
    memset(block, 0, size * sizeof *block);
    size_t n = 0;
    for (; n < count && directions[n].machine == machine && directions[n].sample >> blocks->log_size == number; n++)
        block[row_of(blocks, order, directions[n].sample)] += directions[n].q;
    kernels->hadamard(block, blocks->log_size);

    const ob_vector vector = signs_of(blocks, machine, number);
    int8_t signs[OB_TILE_SIGNS];
    for (size_t first = 0; first < blocks->dimensions; first += OB_TILE_SIGNS) {
        const size_t rest = blocks->dimensions - first, tile = rest < OB_TILE_SIGNS ? rest : OB_TILE_SIGNS;
        ob_signs(&vector, first, tile, signs);
        kernels->add_signed(block + first, signs, tile, sums + first);
    }
    return n;
}

void ob_update_blocks(const ob_blocks *blocks, const ob_round *rounds, size_t round_count, int32_t *block, int32_t *sums, int32_t *k) {
    for (size_t r = 0; r < round_count; r++) {
        memset(sums, 0, blocks->dimensions * sizeof *sums);
        for (size_t i = 0; i < rounds[r].count;)
            i += add_block(blocks, rounds[r].directions + i, rounds[r].count - i, block, sums);
        ob_apply_narrow_step(k, sums, blocks->dimensions, &rounds[r]);
    }
}

void ob_block_projections(const ob_blocks *blocks, uint32_t machine, uint32_t sample, size_t count, const double *gradient, double *block,
                          double *projections) {
    const size_t size = (size_t)1 << blocks->log_size;
    const uint32_t number = sample >> blocks->log_size;
    const ob_vector vector = signs_of(blocks, machine, number);
    int8_t signs[OB_TILE_SIGNS];
    for (size_t first = 0; first < blocks->dimensions; first += OB_TILE_SIGNS) {
        const size_t rest = blocks->dimensions - first, tile = rest < OB_TILE_SIGNS ? rest : OB_TILE_SIGNS;
        ob_signs(&vector, first, tile, signs);
        for (size_t j = 0; j < tile; j++) block[first + j] = gradient[first + j] * signs[j];
    }
    for (size_t j = blocks->dimensions; j < size; j++) block[j] = 0;
    ob_hadamard_doubles(block, blocks->log_size);
    const row_order order = order_of(blocks, machine, number);
    for (size_t i = 0; i < count; i++) projections[i] = block[row_of(blocks, order, sample + (uint32_t)i)];
}

double ob_signed_sum(const int8_t *signs, const double *values, size_t count) {
    enum { LANES = 8 };
    double sums[LANES] = {0};
    size_t j = 0;
    for (; j + LANES <= count; j += LANES)
        for (size_t i = 0; i < LANES; i++) sums[i] += signs[j + i] * values[j + i];
    double total = 0;
    for (; j < count; j++) total += signs[j] * values[j];
    for (size_t i = 0; i < LANES; i++) total += sums[i];
    return total;
}
