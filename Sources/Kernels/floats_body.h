// The bodies of floats.c. They are included once for each instruction set, with TARGET, NAME, LANES, FMA and the macros of products_body.h defined.
// They use generic vectors, which the compiler maps to the registers of the instruction set.

typedef float NAME(vf) __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t NAME(vi) __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int8_t NAME(vb) __attribute__((vector_size(LANES), aligned(1)));
#define VF NAME(vf)
#define VI NAME(vi)
#define VB NAME(vb)
#define INLINE TARGET static inline __attribute__((always_inline))
#define LOAD(p) (*(const VF *)(p))
#define STORE(p, v) (*(VF *)(p) = (v))
#define LOAD8(p) __builtin_convertvector(*(const VB *)(p), VF)
// s − 0 equals s for every s, so only the broadcast is left. s + 0 would not: −0 + 0 is 0.
#define SPLAT(s) ((float)(s) - (VF){0})

INLINE float NAME(total)(VF v) {
    float t[LANES];
    STORE(t, v);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) t[i] += t[i + half];
    return t[0];
}

INLINE VF NAME(select)(VI mask, VF yes, VF no) { return (VF)((mask & (VI)yes) | (~mask & (VI)no)); }

// exp(x): x = k·ln 2 + r with |r| ≤ ln 2/2, then a polynomial of degree 6 (Cephes' expf), with k added to the exponent. The relative error is below
// 2e-7. The result is 0 below −87.3. x above 88 is taken as 88. NaN stays NaN.
INLINE VF NAME(exp)(VF x) {
    VI small = x < SPLAT(-87.3f);
    VF c = NAME(select)(x > SPLAT(88.0f), SPLAT(88.0f), x);
    VF magic = SPLAT(12582912.0f);  // 1.5·2²³: adding it rounds to an integer, which is then in the lowest bits
    VF shifted = FMA(c, SPLAT(1.44269504088896341f), magic);
    VF k = shifted - magic;
    VF r = FMA(k, SPLAT(-0.693359375f), c);
    r = FMA(k, SPLAT(2.12194440e-4f), r);
    VF p = SPLAT(1.9875691500e-4f);
    p = FMA(p, r, SPLAT(1.3981999507e-3f));
    p = FMA(p, r, SPLAT(8.3334519073e-3f));
    p = FMA(p, r, SPLAT(4.1665795894e-2f));
    p = FMA(p, r, SPLAT(1.6666665459e-1f));
    p = FMA(p, r, SPLAT(5.0000001201e-1f));
    p = FMA(p, r * r, r) + SPLAT(1.0f);
    return NAME(select)(small, SPLAT(0.0f), p * (VF)(((VI)shifted << 23) + (127 << 23)));
}

INLINE float NAME(exp1)(float x) {
    VF v = NAME(exp)(SPLAT(x));
    return v[0];
}

INLINE VF NAME(silu)(VF g) { return g / (SPLAT(1.0f) + NAME(exp)(-g)); }

INLINE VF NAME(magnitude)(VF x) { return (VF)((VI)x & 0x7fffffff); }

// tanh(x), with Cephes' polynomial near 0, where 1 − 2/(e²ˣ + 1) would cancel.
INLINE VF NAME(tanh)(VF x) {
    VF a = NAME(magnitude)(x), square = x * x;
    VF p = FMA(SPLAT(-5.70498872745e-3f), square, SPLAT(2.06390887954e-2f));
    p = FMA(p, square, SPLAT(-5.37397155531e-2f));
    p = FMA(p, square, SPLAT(1.33314422036e-1f));
    p = FMA(p, square, SPLAT(-3.33332819422e-1f));
    VF near = FMA(p * square, x, x);
    VF far = SPLAT(1.0f) - SPLAT(2.0f) / (NAME(exp)(a + a) + SPLAT(1.0f));
    far = (VF)((VI)far | ((VI)x & (VI)SPLAT(-0.0f)));
    return NAME(select)(a < SPLAT(0.625f), near, far);
}

// Φ(x)·x of the standard normal distribution, with erfc(z) = t·exp(−z² + P(t)), t = 1/(1 + z/2), from Numerical Recipes. Relative error 1.2e-7.
INLINE VF NAME(gelu)(VF x) {
    VF z = NAME(magnitude)(x) * SPLAT(0.70710678118654752f), t = SPLAT(1.0f) / FMA(SPLAT(0.5f), z, SPLAT(1.0f));
    VF p = FMA(SPLAT(0.17087277f), t, SPLAT(-0.82215223f));
    p = FMA(p, t, SPLAT(1.48851587f));
    p = FMA(p, t, SPLAT(-1.13520398f));
    p = FMA(p, t, SPLAT(0.27886807f));
    p = FMA(p, t, SPLAT(-0.18628806f));
    p = FMA(p, t, SPLAT(0.09678418f));
    p = FMA(p, t, SPLAT(0.37409196f));
    p = FMA(p, t, SPLAT(1.00002368f));
    p = FMA(p, t, SPLAT(-1.26551223f));
    VF half = SPLAT(0.5f) * t * NAME(exp)(FMA(-z, z, p));
    return x * NAME(select)(x < SPLAT(0.0f), half, SPLAT(1.0f) - half);
}

// x·(1 + tanh(√(2/π)(x + 0.044715x³)))/2 = x·σ(2√(2/π)(x + 0.044715x³)).
INLINE VF NAME(gelu_tanh)(VF x) {
    VF inner = FMA(x * x * x, SPLAT(0.044715f), x);
    return x / (SPLAT(1.0f) + NAME(exp)(SPLAT(-1.5957691216057308f) * inner));
}

INLINE VF NAME(relu)(VF x) { return NAME(select)(x > SPLAT(0.0f), x, x * SPLAT(0.0f)); }  // NaN stays NaN

INLINE VF NAME(activation)(VF x, int kind) {
    switch (kind) {
        case OB_GELU: return NAME(gelu)(x);
        case OB_GELU_TANH: return NAME(gelu_tanh)(x);
        case OB_RELU: return NAME(relu)(x);
        case OB_RELU_SQUARED: { VF r = NAME(relu)(x); return r * r; }
        default: return NAME(silu)(x);
    }
}

TARGET static void NAME(activate_row)(float *x, size_t n, int kind) {
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) STORE(x + i, NAME(activation)(LOAD(x + i), kind));
    for (; i < n; i++) x[i] = NAME(activation)(SPLAT(x[i]), kind)[0];
}

TARGET static void NAME(softcap)(float *x, size_t n, float cap) {
    const float inverse = 1.0f / cap;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) STORE(x + i, SPLAT(cap) * NAME(tanh)(LOAD(x + i) * SPLAT(inverse)));
    for (; i < n; i++) x[i] = cap * NAME(tanh)(SPLAT(x[i] * inverse))[0];
}

INLINE VF NAME(xielu1)(VF x, VF plus, VF minus, VF beta, VF epsilon) {
    const VF bent = NAME(select)(x > SPLAT(0.0f), plus * x * x, minus * (NAME(exp)(NAME(select)(x < epsilon, x, epsilon)) - SPLAT(1.0f) - x));
    return FMA(beta, x, bent);
}

TARGET static void NAME(xielu)(float *x, size_t n, float plus, float minus, float beta, float epsilon) {
    const VF p = SPLAT(plus), m = SPLAT(minus), b = SPLAT(beta), e = SPLAT(epsilon);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) STORE(x + i, NAME(xielu1)(LOAD(x + i), p, m, b, e));
    for (; i < n; i++) x[i] = NAME(xielu1)(SPLAT(x[i]), p, m, b, e)[0];
}

TARGET static float NAME(dot_i8)(const float *x, const int8_t *b, size_t n) {
    VF s0 = {0}, s1 = {0};
    size_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        s0 = FMA(LOAD(x + i), LOAD8(b + i), s0);
        s1 = FMA(LOAD(x + i + LANES), LOAD8(b + i + LANES), s1);
    }
    for (; i + LANES <= n; i += LANES) s0 = FMA(LOAD(x + i), LOAD8(b + i), s0);
    float s = NAME(total)(s0 + s1);
    for (; i < n; i++) s += x[i] * b[i];
    return s;
}

INLINE float NAME(dot_inline)(const float *x, const float *y, size_t n) {
    VF s0 = {0}, s1 = {0};
    size_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        s0 = FMA(LOAD(x + i), LOAD(y + i), s0);
        s1 = FMA(LOAD(x + i + LANES), LOAD(y + i + LANES), s1);
    }
    for (; i + LANES <= n; i += LANES) s0 = FMA(LOAD(x + i), LOAD(y + i), s0);
    float s = NAME(total)(s0 + s1);
    for (; i < n; i++) s += x[i] * y[i];
    return s;
}
TARGET static float NAME(dot)(const float *x, const float *y, size_t n) { return NAME(dot_inline)(x, y, n); }

TARGET static void NAME(add_scaled_i8)(float *y, const int8_t *a, float scale, size_t n) {
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) STORE(y + i, FMA(LOAD8(a + i), SPLAT(scale), LOAD(y + i)));
    for (; i < n; i++) y[i] += scale * a[i];
}

INLINE void NAME(add_scaled_inline)(float *y, const float *x, float scale, size_t n) {
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) STORE(y + i, FMA(LOAD(x + i), SPLAT(scale), LOAD(y + i)));
    for (; i < n; i++) y[i] += scale * x[i];
}
TARGET static void NAME(add_scaled)(float *y, const float *x, float scale, size_t n) {
    NAME(add_scaled_inline)(y, x, scale, n);
}

TARGET static void NAME(sum_scaled_i8)(const float *x, const int8_t *a, float scale, float *y, size_t n) {
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) STORE(y + i, FMA(LOAD8(a + i), SPLAT(scale), LOAD(x + i)));
    for (; i < n; i++) y[i] = x[i] + scale * a[i];
}

TARGET static void NAME(rms_norm)(const float *x, const float *weight, float *y, size_t rows, size_t n, float epsilon) {
    for (size_t r = 0; r < rows; r++, x += n, y += n) {
        float f = 1.0f / __builtin_sqrtf(NAME(dot_inline)(x, x, n) / (float)n + epsilon);
        size_t i = 0;
        for (; i + LANES <= n; i += LANES) STORE(y + i, LOAD(x + i) * SPLAT(f) * LOAD(weight + i));
        for (; i < n; i++) y[i] = x[i] * f * weight[i];
    }
}

// (x − mean)/√(variance + ε)·weight + bias. The mean is subtracted first, so that nothing cancels.
TARGET static void NAME(layer_norm)(const float *x, const float *weight, const float *bias, float *y, size_t rows, size_t n, float epsilon) {
    for (size_t r = 0; r < rows; r++, x += n, y += n) {
        VF s = {0};
        size_t i = 0;
        for (; i + LANES <= n; i += LANES) s += LOAD(x + i);
        float sum = NAME(total)(s);
        for (; i < n; i++) sum += x[i];
        const float mean = sum / (float)n;
        s = (VF){0};
        for (i = 0; i + LANES <= n; i += LANES) {
            VF d = LOAD(x + i) - SPLAT(mean);
            s = FMA(d, d, s);
        }
        sum = NAME(total)(s);
        for (; i < n; i++) sum += (x[i] - mean) * (x[i] - mean);
        const float f = 1.0f / __builtin_sqrtf(sum / (float)n + epsilon);
        for (i = 0; i + LANES <= n; i += LANES) {
            VF v = (LOAD(x + i) - SPLAT(mean)) * SPLAT(f);
            if (weight) v *= LOAD(weight + i);
            if (bias) v += LOAD(bias + i);
            STORE(y + i, v);
        }
        for (; i < n; i++) y[i] = (x[i] - mean) * f * (weight ? weight[i] : 1) + (bias ? bias[i] : 0);
    }
}

// Rotates pairs of neighbours, (x[2i], x[2i + 1]).
TARGET static void NAME(rope_pairs)(float *x, size_t stride, const int32_t *positions, size_t rows, size_t heads, size_t head_size, size_t width,
                                    const float *cosine, const float *sine) {
    size_t half = width / 2;
    for (size_t r = 0; r < rows; r++) {
        const float *c = cosine + (size_t)positions[r] * half, *s = sine + (size_t)positions[r] * half;
        for (size_t h = 0; h < heads; h++) {
            float *pair = x + r * stride + h * head_size;
            for (size_t i = 0; i < half; i++, pair += 2) {
                float a = pair[0], b = pair[1];
                pair[0] = a * c[i] - b * s[i];
                pair[1] = b * c[i] + a * s[i];
            }
        }
    }
}

TARGET static void NAME(rope)(float *x, size_t stride, const int32_t *positions, size_t rows, size_t heads,
                              size_t head_size, size_t width, const float *cosine, const float *sine) {
    size_t half = width / 2;
    for (size_t r = 0; r < rows; r++) {
        const float *c = cosine + (size_t)positions[r] * half, *s = sine + (size_t)positions[r] * half;
        for (size_t h = 0; h < heads; h++) {
            float *x1 = x + r * stride + h * head_size, *x2 = x1 + half;
            size_t i = 0;
            for (; i + LANES <= half; i += LANES) {
                VF a = LOAD(x1 + i), b = LOAD(x2 + i), cc = LOAD(c + i), ss = LOAD(s + i);
                STORE(x1 + i, a * cc - b * ss);
                STORE(x2 + i, b * cc + a * ss);
            }
            for (; i < half; i++) {
                float a = x1[i], b = x2[i];
                x1[i] = a * c[i] - b * s[i];
                x2[i] = b * c[i] + a * s[i];
            }
        }
    }
}

// Replaces x[0..<n] by the softmax of scale·x, scale > 0. A NaN anywhere makes all of it NaN, so that a broken loss is seen and not averaged away.
INLINE void NAME(softmax_inline)(float *x, size_t n, float scale) {
    float largest = x[0];
    size_t i = 0;
    if (n >= LANES) {
        VF m = LOAD(x);
        for (i = LANES; i + LANES <= n; i += LANES) m = NAME(select)(LOAD(x + i) > m, LOAD(x + i), m);
        for (int l = 0; l < LANES; l++) largest = m[l] > largest ? m[l] : largest;
    }
    for (; i < n; i++) largest = x[i] > largest ? x[i] : largest;
    VF s = {0};
    for (i = 0; i + LANES <= n; i += LANES) {
        VF e = NAME(exp)((LOAD(x + i) - SPLAT(largest)) * SPLAT(scale));
        STORE(x + i, e);
        s += e;
    }
    float sum = 0;
    if (i < n) {
        float rest[LANES];
        for (size_t l = 0; l < LANES; l++) rest[l] = i + l < n ? (x[i + l] - largest) * scale : -100.0f;
        VF e = NAME(exp)(LOAD(rest));
        s += e;
        for (size_t l = 0; i + l < n; l++) x[i + l] = e[l];
    }
    sum = NAME(total)(s);
    float f = 1.0f / sum;
    for (i = 0; i + LANES <= n; i += LANES) STORE(x + i, LOAD(x + i) * SPLAT(f));
    for (; i < n; i++) x[i] *= f;
}

// Turns the scores q·k of one head's keys into probabilities. `first` is the number of the first of these keys.
INLINE void NAME(probabilities)(float *scores, size_t first, size_t count, size_t head, const ob_attention *form) {
    float scale = form->scale;
    if (form->softcap > 0) {
        for (size_t t = 0; t < count; t++) scores[t] *= scale;
        NAME(softcap)(scores, count, form->softcap);
        scale = 1;
    }
    if (form->slopes) {
        for (size_t t = 0; t < count; t++) scores[t] = scores[t] * scale + form->slopes[head] * (float)(first + t);
        scale = 1;
    }
    NAME(softmax_inline)(scores, count, scale);
}

TARGET static void NAME(attend)(const float *q, const float *k, size_t k_stride, const float *v, size_t v_stride,
                                size_t visible, const ob_attention *form, float *scores, float *out) {
    const size_t heads = form->heads, head_size = form->head_size, shared = heads / form->kv_heads;
    const size_t first = form->window && visible > form->window ? visible - form->window : 0, count = visible - first;
    k += first * k_stride;
    v += first * v_stride;
    for (size_t h = 0; h < heads; h++) {
        const float *kh = k + h / shared * head_size, *vh = v + h / shared * head_size, *qh = q + h * head_size;
        for (size_t t = 0; t < count; t++) scores[t] = NAME(dot_inline)(qh, kh + t * k_stride, head_size);
        NAME(probabilities)(scores, first, count, h, form);
        float *o = out + h * head_size;
        size_t i = 0;
        for (; i + 4 * LANES <= head_size; i += 4 * LANES) {
            VF o0 = {0}, o1 = {0}, o2 = {0}, o3 = {0};
            for (size_t t = 0; t < count; t++) {
                const float *vt = vh + t * v_stride + i;
                VF p = SPLAT(scores[t]);
                o0 = FMA(p, LOAD(vt), o0);
                o1 = FMA(p, LOAD(vt + LANES), o1);
                o2 = FMA(p, LOAD(vt + 2 * LANES), o2);
                o3 = FMA(p, LOAD(vt + 3 * LANES), o3);
            }
            STORE(o + i, o0);
            STORE(o + i + LANES, o1);
            STORE(o + i + 2 * LANES, o2);
            STORE(o + i + 3 * LANES, o3);
        }
        if (i < head_size) {
            for (size_t j = i; j < head_size; j++) o[j] = 0;
            for (size_t t = 0; t < count; t++)
                NAME(add_scaled_inline)(o + i, vh + t * v_stride + i, scores[t], head_size - i);
        }
    }
}

TARGET static void NAME(softmax)(float *x, size_t n) { NAME(softmax_inline)(x, n, 1); }

TARGET static void NAME(gated_rank1)(int kind, const float *gate, const int8_t *a_gate, float gate_scale, const float *up,
                                     const int8_t *a_up, float up_scale, float *out, size_t n) {
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        VF g = LOAD(gate + i), u = LOAD(up + i);
        if (a_gate) g = FMA(LOAD8(a_gate + i), SPLAT(gate_scale), g);
        if (a_up) u = FMA(LOAD8(a_up + i), SPLAT(up_scale), u);
        STORE(out + i, NAME(activation)(g, kind) * u);
    }
    for (; i < n; i++) {
        float g = gate[i] + (a_gate ? gate_scale * a_gate[i] : 0), u = up[i] + (a_up ? up_scale * a_up[i] : 0);
        out[i] = NAME(activation)(SPLAT(g), kind)[0] * u;
    }
}

TARGET static void NAME(log_sum_exp_parts)(const float *x, size_t n, float *largest, float *sum) {
    float m = x[0];
    for (size_t i = 1; i < n; i++) m = x[i] > m ? x[i] : m;
    VF s = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) s += NAME(exp)(LOAD(x + i) - SPLAT(m));
    float t = NAME(total)(s);
    for (; i < n; i++) t += NAME(exp1)(x[i] - m);
    *largest = m;
    *sum = t;
}

// Twelve sums are more than the latency of a multiply-add can use up, and every instruction set has registers for them.
TARGET static size_t NAME(multiply_adds)(size_t steps, float *sink) {
    VF sums[12] = {0}, factor = SPLAT(0.5f), addend = SPLAT(*sink);
    for (size_t i = 0; i < steps; i++)
#pragma clang loop unroll(full)
        for (int j = 0; j < 12; j++) sums[j] = FMA(sums[j], factor, addend);
    VF all = {0};
    for (int j = 0; j < 12; j++) all += sums[j];
    *sink = NAME(total)(all);
    return steps * 12 * LANES * 2;
}

#include "products_body.h"

const ob_float_kernels TABLE = {
    TABLE_NAME, NAME(rms_norm), NAME(layer_norm), NAME(rope), NAME(rope_pairs), NAME(attend), NAME(softmax), NAME(activate_row), NAME(softcap), NAME(xielu),
    NAME(gated_rank1), NAME(dot_i8), NAME(dot), NAME(add_scaled_i8), NAME(add_scaled), NAME(sum_scaled_i8), NAME(log_sum_exp_parts),
    NAME(multiply_adds), NAME(product), NAME(gated_product), NAME(attend_rows), NAME(dots_i8),
};

#undef VF
#undef VI
#undef VB
#undef INLINE
#undef LOAD
#undef STORE
#undef LOAD8
#undef SPLAT
