// Float kernels of the forward pass: what stands between the matrix products. Nothing here decides the parameters, so
// these may differ in the last bits from one instruction set to another; relative error about 1e-6.
// Matrices are row-major; `stride` counts floats from one row to the next.
#ifndef ONEBYTE_FLOATS_H
#define ONEBYTE_FLOATS_H
#include <stddef.h>
#include <stdint.h>

/// y = x · weight / sqrt(mean(x²) + epsilon) for each of `rows` rows of n. x and y may be the same.
void onebyte_rms_norm(const float *x, const float *weight, float *y, size_t rows, size_t n, float epsilon);

/// y = (x − mean(x)) · weight / sqrt(variance(x) + epsilon) + bias for each of `rows` rows of n. weight and bias may be null; x and y may be the same.
void onebyte_layer_norm(const float *x, const float *weight, const float *bias, float *y, size_t rows, size_t n, float epsilon);

/// Rotates the first `width` numbers of each of `heads` heads in `rows` rows, in place: (x₁, x₂) → (x₁c − x₂s, x₂c + x₁s). The two are a half of the
/// width apart (Hugging Face's order), or with `pairs` neighbours. Row r stands at positions[r]; cosine and sine hold width/2 values for each position.
void onebyte_rope(float *x, size_t stride, const int32_t *positions, size_t rows, size_t heads, size_t head_size, size_t width, int pairs,
                  const float *cosine, const float *sine);

/// What attention computes from queries, keys and values.
typedef struct {
    /// heads/kv_heads query heads share a key head.
    size_t heads, kv_heads, head_size;
    /// Of the scores q·k.
    float scale;
    /// Scores become cap·tanh(score/cap); 0: they stay as they are.
    float softcap;
    /// Keys that a query sees, its own included; 0: all before it.
    size_t window;
    /// Null, or ALiBi's slope of each head: slope·position is added to a key's score.
    const float *slopes;
} onebyte_attention;

/// One query's attention over `count` keys and values, all heads: out = softmax(q·k·scale)·v for each head. scores: scratch for `count` floats.
void onebyte_attend(const float *q, const float *k, size_t k_stride, const float *v, size_t v_stride, size_t count,
                    const onebyte_attention *form, float *scores, float *out);

/// Activations of a feed-forward layer.
enum {
    OB_SILU,
    /// x·Φ(x).
    OB_GELU,
    /// Its approximation by a tanh.
    OB_GELU_TANH,
    OB_RELU,
    OB_RELU_SQUARED,
};

/// x becomes its activation.
void onebyte_activate(float *x, size_t n, int kind);

/// x becomes cap·tanh(x/cap).
void onebyte_softcap(float *x, size_t n, float cap);

/// x becomes its softmax; all of it NaN where one of it is.
void onebyte_softmax(float *x, size_t n);

/// out = activation(gate)·up for a row whose gate and up carry rank-one terms: gate + gate_scale·a_gate, up + up_scale·a_up.
/// Either of the vectors may be null.
void onebyte_gated_rank1(int kind, const float *gate, const int8_t *a_gate, float gate_scale, const float *up, const int8_t *a_up,
                         float up_scale, float *out, size_t n);

/// Σ xᵢ·bᵢ.
float onebyte_dot_i8(const float *x, const int8_t *b, size_t n);
float onebyte_dot(const float *x, const float *y, size_t n);

/// y += scale·a.
void onebyte_add_scaled_i8(float *y, const int8_t *a, float scale, size_t n);
void onebyte_add_scaled(float *y, const float *x, float scale, size_t n);

/// y = x + scale·a.
void onebyte_sum_scaled_i8(const float *x, const int8_t *a, float scale, float *y, size_t n);

/// The largest of x and Σ exp(xᵢ − largest); NaN where x holds one.
void onebyte_log_sum_exp_parts(const float *x, size_t n, float *largest, float *sum);

/// Nothing but multiply-adds in registers, the most that this processor can do in a unit of time; the floating-point operations
/// that it took. `sink` is read and written, so that none of it is optimised away.
size_t onebyte_multiply_adds(size_t steps, float *sink);

/// The instruction set that the kernels above run with: "avx512", "avx2", "neon" or "portable"; the best that the processor has,
/// unless ONEBYTE_KERNELS names another.
const char *onebyte_float_variant(void);
/// For tests: makes the calling thread, and no other, use the named variant, or with null the process's again; 0 where this machine
/// has it not.
int onebyte_select_float_variant(const char *name);
#endif
