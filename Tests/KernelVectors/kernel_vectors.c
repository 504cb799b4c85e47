// What every variant of the integer kernels gives, as one hash a line: built for two processors, both must print the same.
//
//   kernel_vectors          runs every variant that this processor has; prints the hashes, or what differs (status 1)
//
// scripts/test-neon builds it for this machine and for AArch64, which runs under qemu-user.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels.h"

// FNV-1a, 64 bits.
static uint64_t hash_bytes(const void *data, size_t count) {
    const uint8_t *bytes = data;
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < count; i++) hash = (hash ^ bytes[i]) * 0x100000001b3u;
    return hash;
}

// Inputs come from the generator under test's portable form, so that no library's random numbers are needed.
static uint32_t random_word(uint32_t i, uint32_t stream) {
    uint32_t output[4];
    const uint32_t counter[4] = {i, stream, 0x5eed, 0}, key[2] = {1, 2};
    ob_philox(counter, key, output);
    return output[0];
}

static void *memory(size_t bytes) {
    void *start = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!start) exit((perror("kernel_vectors"), 2));
    memset(start, 0, (bytes + 63) / 64 * 64);
    return start;
}

static const uint32_t key[2] = {0x01234567, 0x89abcdef};

enum { DIRECTIONS = 150, ROUNDS = 3, ROWS = 75, COLUMNS = 203, COMPONENTS = 3, DENSE = 3 * OB_TILE_SIGNS + 77 };

/// Directions of `ROUNDS` rounds; a few bytes are at the ends of their range.
static void make_rounds(ob_direction *directions, ob_round *rounds, int32_t exponent) {
    for (int i = 0; i < DIRECTIONS * ROUNDS; i++) {
        int32_t q = (int32_t)(random_word((uint32_t)i, 1) % 255) - 127;
        directions[i] = (ob_direction){.machine = (uint32_t)i % 7, .sample = (uint32_t)i, .q = i % 10 ? q : i % 20 ? 127 : -127};
    }
    const ob_step steps[ROUNDS] = {{40000, exponent, 0}, {65535, exponent + 3, 1}, {32768, exponent - 5, 0}};
    for (int r = 0; r < ROUNDS; r++)
        rounds[r] = (ob_round){.directions = directions + r * DIRECTIONS, .count = DIRECTIONS, .step = steps[r]};
}

static void fill(int32_t *k, size_t count) {
    for (size_t i = 0; i < count; i++) k[i] = (int32_t)random_word((uint32_t)i, 2) >> 3;
}

static uint64_t dense(int gaussian, int32_t exponent) {
    static ob_direction directions[DIRECTIONS * ROUNDS];
    ob_round rounds[ROUNDS];
    make_rounds(directions, rounds, exponent);
    int32_t *k = memory(DENSE * sizeof *k);
    fill(k, DENSE);
    (gaussian ? ob_update_gaussians : ob_update_signs)(key, 12, rounds, ROUNDS, 0, DENSE, k);
    uint64_t hash = hash_bytes(k, DENSE * sizeof *k);
    free(k);
    return hash;
}

/// Rounds of outer products, block by block, as `Rank1Update` does it: shaped b, a part of the rounds carried.
static uint64_t rank1(int shaped, int carried, int32_t exponent) {
    enum { QUADS_OF_ROUND = (DIRECTIONS + OB_QUAD - 1) / OB_QUAD, QUADS = QUADS_OF_ROUND * ROUNDS, STRIDE = 256 };
    static ob_direction directions[DIRECTIONS * ROUNDS];
    ob_round rounds[ROUNDS];
    make_rounds(directions, rounds, exponent);
    int16_t *basis = memory(COMPONENTS * COLUMNS * sizeof *basis);
    for (int i = 0; i < COMPONENTS * COLUMNS; i++) basis[i] = (int16_t)(random_word((uint32_t)i, 3) % 3000) - 1500;
    void *a = memory(ob_packed_bytes(QUADS, ROWS, 1)), *b = memory(ob_packed_bytes(QUADS, COLUMNS, 1));
    int8_t *rows = memory(OB_QUAD * STRIDE), *columns = memory(OB_QUAD * STRIDE);
    for (int quad = 0; quad < QUADS; quad++) {
        int8_t q[OB_QUAD] = {0};
        for (int i = 0; i < OB_QUAD; i++) {
            int d = quad % QUADS_OF_ROUND * OB_QUAD + i;
            if (d >= DIRECTIONS) continue;
            const ob_direction *direction = &rounds[quad / QUADS_OF_ROUND].directions[d];
            ob_vector vector = {{key[0], key[1]}, 4 * 5 + 1, direction->sample, direction->machine};
            ob_signs(&vector, 0, ROWS, rows + i * STRIDE);
            vector.stream++;
            ob_signs(&vector, 0, COLUMNS, columns + i * STRIDE);
            if (shaped) ob_damp(columns + i * STRIDE, basis, COMPONENTS, COLUMNS, columns + i * STRIDE);
            q[i] = (int8_t)direction->q;
        }
        ob_pack_quad(rows, STRIDE, ROWS, q, (size_t)quad, QUADS, 1, a);
        ob_pack_quad(columns, STRIDE, COLUMNS, 0, (size_t)quad, QUADS, 1, b);
    }
    ob_segment segments[ROUNDS];
    for (int r = 0; r < ROUNDS; r++) {
        uint64_t bound = 0;
        for (int d = 0; d < DIRECTIONS; d++) bound += (uint64_t)abs(rounds[r].directions[d].q) * (shaped ? 127 : 1);
        segments[r] = (ob_segment){.first_quad = (size_t)r * QUADS_OF_ROUND, .quads = QUADS_OF_ROUND, .step = rounds[r].step,
                                   .bound = bound, .carried = carried, .ends = 1};
    }
    const size_t panels = (ROWS + OB_PANEL - 1) / OB_PANEL;
    int32_t *starts = memory((panels * ob_starts_of_panel(segments, ROUNDS, 1) + 1) * sizeof *starts);
    for (size_t panel = 0; panel < panels; panel++) ob_make_starts(a, QUADS, segments, ROUNDS, panel, 1, starts);
    int32_t *k = memory(ROWS * COLUMNS * sizeof *k);
    int64_t *carry = memory(ROWS * COLUMNS * sizeof *carry);
    fill(k, ROWS * COLUMNS);
    for (size_t row = 0; row < ROWS; row += OB_BLOCK_ROWS)
        for (size_t column = 0; column < COLUMNS; column += OB_BLOCK_COLUMNS)
            ob_update_rank1(a, starts, b, QUADS, segments, ROUNDS, row, ROWS - row < OB_BLOCK_ROWS ? ROWS - row : OB_BLOCK_ROWS, column,
                            COLUMNS - column < OB_BLOCK_COLUMNS ? COLUMNS - column : OB_BLOCK_COLUMNS, COLUMNS, 1, k, carry);
    uint64_t hash = hash_bytes(k, ROWS * COLUMNS * sizeof *k);
    free(basis), free(a), free(starts), free(b), free(rows), free(columns), free(k), free(carry);
    return hash;
}

static uint64_t vectors(int gaussian) {
    enum { FIRST = 1000, COUNT = 9000 };
    static int8_t output[COUNT];
    const ob_vector vector = {{key[0], key[1]}, 9, 3, 4};
    (gaussian ? ob_gaussians : ob_signs)(&vector, FIRST, COUNT, output);
    return hash_bytes(output, COUNT);
}

static uint64_t conversions(void) {
    enum { COUNT = 5003 };
    static float values[COUNT], back[COUNT];
    static int32_t k[COUNT];
    for (int i = 0; i < COUNT; i++) values[i] = (float)((int32_t)random_word((uint32_t)i, 4) >> 4) * 0x1p-30f;
    ob_floats_to_fixed(values, COUNT, 31, k);
    ob_fixed_to_floats(k, COUNT, 33, back);
    return hash_bytes(k, sizeof k) ^ hash_bytes(back, sizeof back);
}

static uint64_t hashes(void) {
    enum { COUNT = 64 * 50 };
    static uint8_t bytes[COUNT + 3];
    for (int i = 0; i < COUNT + 3; i++) bytes[i] = (uint8_t)random_word((uint32_t)i, 5);
    uint32_t state[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    ob_sha256_blocks(state, bytes, COUNT / 64);
    return hash_bytes(state, sizeof state) ^ ob_crc32c(0, bytes, COUNT + 3);
}

/// Products of quantised rows; `type` is that of the weights.
static uint64_t quantised(int type) {
    enum { N = 9, INPUTS = 160, OUTPUTS = 45 };
    static float x[N * INPUTS], w[OUTPUTS * INPUTS], y[N * OUTPUTS];
    static uint8_t stored[2 * OUTPUTS * INPUTS];
    for (int i = 0; i < N * INPUTS; i++) x[i] = (float)((int32_t)random_word((uint32_t)i, 6) >> 4) * 0x1p-27f;
    for (int i = 0; i < OUTPUTS * INPUTS; i++) w[i] = (float)((int32_t)random_word((uint32_t)i, 7) >> 4) * 0x1p-29f;
    for (int i = 0; i < 2 * OUTPUTS * INPUTS; i++) stored[i] = (uint8_t)random_word((uint32_t)i, 8);
    const size_t row_bytes = type == OB_F32 ? INPUTS * sizeof *w : INPUTS / 32 * ob_block_bytes(type);
    for (size_t i = 0; type != OB_F32 && i < OUTPUTS * row_bytes; i += ob_block_bytes(type)) {  // scales and minima of a usual size
        stored[i + 1] = 0x28 | (stored[i + 1] & 3);
        if (type == OB_Q4_1) stored[i + 3] = 0xb0 | (stored[i + 3] & 3);
    }
    const char *from = type == OB_F32 ? (const char *)w : (const char *)stored;
    const size_t bytes = ob_quantised_panel_bytes(INPUTS);
    char *panels = memory((OUTPUTS + 15) / 16 * bytes), *rows = memory(N * ob_quantised_row_bytes(INPUTS));
    for (size_t o = 0; o < OUTPUTS; o += 16) {
        const void *own[16];
        const size_t count = OUTPUTS - o < 16 ? OUTPUTS - o : 16;
        for (size_t i = 0; i < count; i++) own[i] = from + (o + i) * row_bytes;
        ob_quantise_panel(type, own, count, INPUTS, panels + o / 16 * bytes);
    }
    ob_quantise_rows(x, INPUTS, N, INPUTS, rows);
    const ob_quantised_matrix matrix = {.outputs = OUTPUTS, .inputs = INPUTS, .panels = panels, .is_narrow = type == OB_Q4_1};
    ob_quantised_product(rows, N, &matrix, y, OUTPUTS, 0);
    free(panels), free(rows);
    return hash_bytes(y, sizeof y);
}

enum { CASES = 16 };
static const char *const names[CASES] = {
    "signs", "gaussians", "rademacher update", "rademacher update, step of whole numbers", "gaussian update",
    "gaussian update, step of whole numbers", "rank1 update", "rank1 update, carried", "rank1 update, step of whole numbers", "shaped rank1 update",
    "shaped rank1 update, carried", "conversions", "SHA-256 and CRC-32C",
    "products in blocks, F32", "products in blocks, Q4_1", "products in blocks, Q8_0",
};

static uint64_t run(int i) {
    switch (i) {
    case 0: return vectors(0);
    case 1: return vectors(1);
    case 2: return dense(0, -12);
    case 3: return dense(0, 1);
    case 4: return dense(1, -17);
    case 5: return dense(1, 1);
    case 6: return rank1(0, 0, -12);
    case 7: return rank1(0, 1, -12);
    case 8: return rank1(0, 0, 1);
    case 9: return rank1(1, 0, -17);
    case 10: return rank1(1, 1, -17);
    case 11: return conversions();
    case 12: return hashes();
    case 13: return quantised(OB_F32);
    case 14: return quantised(OB_Q4_1);
    default: return quantised(OB_Q8_0);
    }
}

int main(void) {
    uint64_t expected[CASES];
    int differs = 0;
    for (size_t v = 0; ob_kernels_available(v); v++) {
        const char *variant = ob_kernels_available(v);
        ob_kernels_select(variant);
        fprintf(stderr, "%s\n", variant);
        for (int i = 0; i < CASES; i++) {
            uint64_t hash = run(i);
            if (v == 0) expected[i] = hash;
            if (hash == expected[i]) continue;
            fprintf(stderr, "%s: %s differs from %s\n", variant, names[i], ob_kernels_available(0));
            differs = 1;
        }
    }
    for (int i = 0; i < CASES; i++) printf("%016llx  %s\n", (unsigned long long)expected[i], names[i]);
    return differs;
}
