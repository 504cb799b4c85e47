// The bodies of floats.c, included once for each instruction set with TARGET, NAME, LANES, FMA and what products_body.h asks for defined.
// Generic vectors: the compiler maps them onto whatever registers the set has.

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
// s − 0 is s whatever it is, so that nothing but the broadcast is left; s + 0 is not, for −0.
#define SPLAT(s) ((float)(s) - (VF){0})

INLINE float NAME(total)(VF v) {
    float t[LANES];
    STORE(t, v);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) t[i] += t[i + half];
    return t[0];
}

INLINE VF NAME(select)(VI mask, VF yes, VF no) { return (VF)((mask & (VI)yes) | (~mask & (VI)no)); }

// exp(x): x = k·ln 2 + r with |r| ≤ ln 2/2, then a polynomial of degree 6 (Cephes' expf) and k into the exponent.
// Relative error below 2e-7; 0 below −87.3; x above 88 is taken as 88; NaN stays NaN.
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

TARGET static void NAME(rope)(float *x, size_t stride, const int32_t *positions, size_t rows, size_t heads,
                              size_t head_size, const float *cosine, const float *sine) {
    size_t half = head_size / 2;
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

// x[0..<n] becomes the softmax of scale·x, scale > 0. A NaN anywhere makes all of it NaN, so a broken loss is seen and not averaged away.
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

TARGET static void NAME(attend)(const float *q, const float *k, size_t k_stride, const float *v, size_t v_stride,
                                size_t count, size_t heads, size_t kv_heads, size_t head_size, float scale,
                                float *scores, float *out) {
    size_t shared = heads / kv_heads;
    for (size_t h = 0; h < heads; h++) {
        const float *kh = k + h / shared * head_size, *vh = v + h / shared * head_size, *qh = q + h * head_size;
        for (size_t t = 0; t < count; t++) scores[t] = NAME(dot_inline)(qh, kh + t * k_stride, head_size);
        NAME(softmax_inline)(scores, count, scale);
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

TARGET static void NAME(swiglu_rank1)(const float *gate, const int8_t *a_gate, float gate_scale, const float *up,
                                      const int8_t *a_up, float up_scale, float *out, size_t n) {
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        VF g = LOAD(gate + i), u = LOAD(up + i);
        if (a_gate) g = FMA(LOAD8(a_gate + i), SPLAT(gate_scale), g);
        if (a_up) u = FMA(LOAD8(a_up + i), SPLAT(up_scale), u);
        STORE(out + i, NAME(silu)(g) * u);
    }
    for (; i < n; i++) {
        float g = gate[i] + (a_gate ? gate_scale * a_gate[i] : 0), u = up[i] + (a_up ? up_scale * a_up[i] : 0);
        out[i] = g / (1.0f + NAME(exp1)(-g)) * u;
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

// Twelve sums: more than the latency of a multiply-add hides, and as many as there are registers for in every set.
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

static const struct float_kernels NAME(kernels) = {
    NAME(rms_norm), NAME(rope), NAME(attend), NAME(softmax), NAME(swiglu_rank1), NAME(dot_i8),
    NAME(dot), NAME(add_scaled_i8), NAME(add_scaled), NAME(sum_scaled_i8), NAME(log_sum_exp_parts),
    NAME(multiply_adds), NAME(product), NAME(swiglu_product), NAME(attend_rows), NAME(dots_i8),
};

#undef VF
#undef VI
#undef VB
#undef INLINE
#undef LOAD
#undef STORE
#undef LOAD8
#undef SPLAT
