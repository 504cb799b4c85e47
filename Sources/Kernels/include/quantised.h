// Products of rows in 8 bits by weights in 8 bits, y = x·wᵀ. Both have a scale for each block of 32 inputs, as in ggml's block formats, so that a few
// large activations do no harm to those in other blocks. Weights are w = scale·q + minimum with q in 0…255, which holds Q4_0, Q4_1 and Q8_0 without
// rounding. Rows are x = scale·q with q in −127…127.
//
// Sums within a block are exact, and the sums of blocks are fused multiply-adds in the order of the inputs. So every variant gives the same bits, and
// a row's result does not depend on the rows beside it.
#ifndef ONEBYTE_QUANTISED_H
#define ONEBYTE_QUANTISED_H
#include <stddef.h>
#include <stdint.h>

/// The number of inputs with a common scale, and of outputs in a panel of packed weights.
enum { OB_QUANTISED_INPUTS = 32, OB_QUANTISED_PANEL = 16 };

/// A packed matrix of outputs × inputs.
typedef struct {
    size_t outputs, inputs;
    /// ⌈outputs/16⌉ panels, on a cache line boundary.
    const void *panels;
    /// Whether all q are below 16, as those of the formats of 4 bits. Some processors multiply these faster.
    int is_narrow;
} ob_quantised_matrix;

/// Returns the number of bytes of a quantised row, and of a panel of packed weights, which is a multiple of 64.
size_t ob_quantised_row_bytes(size_t inputs);
size_t ob_quantised_panel_bytes(size_t inputs);

/// Whether weights of this type are packed as they are stored: OB_Q4_0, OB_Q4_1 and OB_Q8_0. All others are packed as OB_F32.
int ob_quantised_reads(int type);

/// Packs `count` ≤ 16 rows of weights as a panel; missing rows count as zeros. Each row is stored as `type`, which is OB_F32 or one that
/// ob_quantised_reads. An output with a weight that is not finite gets products that are not finite.
void ob_quantise_panel(int type, const void *const *rows, size_t count, size_t inputs, void *panel);

/// Quantises rows of x, `stride` floats apart, into rows of ob_quantised_row_bytes(inputs). Products of a row with a value that is not finite are not
/// finite.
void ob_quantise_rows(const float *x, size_t stride, size_t rows, size_t inputs, void *quantised);

/// y = (adds ? y : 0) + x·wᵀ for consecutive quantised rows.
void ob_quantised_product(const void *x, size_t rows, const ob_quantised_matrix *w, float *y, size_t y_stride, int adds);

/// y = activation(x·gateᵀ)·(x·upᵀ) for consecutive quantised rows and two matrices of one shape. The activation is that of floats.h, whose last bits
/// may differ from one instruction set to another.
void ob_quantised_gated_product(int kind, const void *x, size_t rows, const ob_quantised_matrix *gate, const ob_quantised_matrix *up, float *y,
                                size_t y_stride);
#endif
