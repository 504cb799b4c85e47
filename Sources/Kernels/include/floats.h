// The float kernels of the forward pass other than matrix products. Nothing here decides the parameters, so the last bits may differ from one
// instruction set to another; the relative error is about 1e-6. Matrices are row-major, and `stride` is the number of floats from one row to the
// next.
#ifndef ONEBYTE_FLOATS_H
#define ONEBYTE_FLOATS_H
#include <stddef.h>
#include <stdint.h>

/// y = x · weight / sqrt(mean(x²) + epsilon) for each of `rows` rows of n. x and y may be the same.
void ob_rms_norm(const float *x, const float *weight, float *y, size_t rows, size_t n, float epsilon);

/// y = (x − mean(x)) · weight / sqrt(variance(x) + epsilon) + bias for each of `rows` rows of n. weight and bias may be null. x and y may be the
/// same.
void ob_layer_norm(const float *x, const float *weight, const float *bias, float *y, size_t rows, size_t n, float epsilon);

/// Rotates the first `width` numbers of each of `heads` heads in `rows` rows, in place: (x₁, x₂) → (x₁c − x₂s, x₂c + x₁s). The two numbers are
/// width/2 apart (Hugging Face's order), or neighbours if `pairs` is set. Row r is at positions[r]. cosine and sine hold width/2 values for each
/// position.
void ob_rope(float *x, size_t stride, const int32_t *positions, size_t rows, size_t heads, size_t head_size, size_t width, int pairs,
                  const float *cosine, const float *sine);

/// The form of an attention: its sizes and how scores become probabilities.
typedef struct {
    /// heads/kv_heads query heads share one key head.
    size_t heads, kv_heads, head_size;
    /// Factor of the scores q·k.
    float scale;
    /// Scores become cap·tanh(score/cap); 0: scores stay as they are.
    float softcap;
    /// Number of keys that a query sees, its own included; 0: all keys before it.
    size_t window;
    /// Null, or ALiBi's slope of each head: slope·position is added to a key's score.
    const float *slopes;
} ob_attention;

/// Computes one query's attention over `count` keys and values, for all heads: out = softmax(q·k·scale)·v. scores: scratch of `count` floats.
void ob_attend(const float *q, const float *k, size_t k_stride, const float *v, size_t v_stride, size_t count,
                    const ob_attention *form, float *scores, float *out);

/// Activations of a feed-forward layer.
enum {
    OB_SILU,
    /// x·Φ(x).
    OB_GELU,
    /// The tanh approximation of GELU.
    OB_GELU_TANH,
    OB_RELU,
    OB_RELU_SQUARED,
};

/// Replaces x by its activation.
void ob_activate(float *x, size_t n, int kind);

/// Replaces x by plus·x² + beta·x where x is positive, and by minus·(eᵐ − 1 − x) + beta·x with m = min(x, epsilon) elsewhere (xIELU: Huang & Schlag,
/// arXiv 2411.13010).
void ob_xielu(float *x, size_t n, float plus, float minus, float beta, float epsilon);

/// Replaces x by cap·tanh(x/cap).
void ob_softcap(float *x, size_t n, float cap);

/// Replaces x by its softmax. All of it becomes NaN if any element is NaN.
void ob_softmax(float *x, size_t n);

/// out = activation(gate)·up for a row whose gate and up have rank-one terms: gate + gate_scale·a_gate, up + up_scale·a_up. Each of the two vectors
/// may be null.
void ob_gated_rank1(int kind, const float *gate, const int8_t *a_gate, float gate_scale, const float *up, const int8_t *a_up,
                         float up_scale, float *out, size_t n);

/// Return Σ xᵢ·bᵢ.
float ob_dot_i8(const float *x, const int8_t *b, size_t n);
float ob_dot(const float *x, const float *y, size_t n);

/// y += scale·a.
void ob_add_scaled_i8(float *y, const int8_t *a, float scale, size_t n);
void ob_add_scaled(float *y, const float *x, float scale, size_t n);

/// y = x + scale·a.
void ob_sum_scaled_i8(const float *x, const int8_t *a, float scale, float *y, size_t n);

/// Returns the largest of x and Σ exp(xᵢ − largest); NaN if x has a NaN.
void ob_log_sum_exp_parts(const float *x, size_t n, float *largest, float *sum);

/// Does nothing but multiply-adds in registers, at the highest rate of this processor. Returns the number of floating-point operations. `sink` is
/// read and written, so that none of them is optimised away.
size_t ob_multiply_adds(size_t steps, float *sink);

/// Returns the name of the instruction set that the kernels above use: "avx512", "avx2", "neon" or "portable". It is the best that the processor has,
/// unless ONEBYTE_KERNELS names another.
const char *ob_float_variant(void);
#endif
