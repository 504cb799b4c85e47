// Run-time dispatch of the float kernels: one set of bodies (floats_body.h), compiled for each instruction set.
#include "kernels.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct float_kernels {
    void (*rms_norm)(const float *, const float *, float *, size_t, size_t, float);
    void (*rope)(float *, size_t, const int32_t *, size_t, size_t, size_t, const float *, const float *);
    void (*attend)(const float *, const float *, size_t, const float *, size_t, size_t, size_t, size_t, size_t, float,
                   float *, float *);
    void (*causal_softmax)(float *, size_t, size_t, size_t, size_t);
    void (*swiglu)(const float *, const float *, size_t, float *, size_t, size_t, size_t);
    void (*swiglu_rank1)(const float *, const int8_t *, float, const float *, const int8_t *, float, float *, size_t);
    float (*dot_i8)(const float *, const int8_t *, size_t);
    float (*dot)(const float *, const float *, size_t);
    void (*add_scaled_i8)(float *, const int8_t *, float, size_t);
    void (*add_scaled)(float *, const float *, float, size_t);
    void (*sum_scaled_i8)(const float *, const int8_t *, float, float *, size_t);
    void (*two_sided)(const float *, const int8_t *, float, float *, float *, size_t);
    void (*log_sum_exp_parts)(const float *, size_t, float *, float *);
    size_t (*multiply_adds)(size_t, float *);
};

#if defined(__x86_64__)
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"), min_vector_width(512)))
#define NAME(x) avx512_##x
#define LANES 16
#define FMA(a, b, c) __builtin_elementwise_fma(a, b, c)
#include "floats_body.h"
#undef TARGET
#undef NAME
#undef LANES
#undef FMA

#define TARGET __attribute__((target("avx2,fma")))
#define NAME(x) avx2_##x
#define LANES 8
#define FMA(a, b, c) __builtin_elementwise_fma(a, b, c)
#include "floats_body.h"
#undef TARGET
#undef NAME
#undef LANES
#undef FMA
#endif

#define TARGET
#define NAME(x) portable_##x
#define LANES 4
#if defined(__aarch64__)
#define FMA(a, b, c) __builtin_elementwise_fma(a, b, c)
#else
#define FMA(a, b, c) ((a) * (b) + (c))  // SSE2 has no fused multiply-add; libm's would be a call for each lane
#endif
#include "floats_body.h"

#if defined(__aarch64__)
#define PORTABLE_NAME "neon"
#else
#define PORTABLE_NAME "portable"
#endif

static const struct float_kernels *find(const char *name) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if ((!name || !strcmp(name, "avx512")) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return &avx512_kernels;
    if ((!name || !strcmp(name, "avx2")) && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &avx2_kernels;
#endif
    if (!name || !strcmp(name, PORTABLE_NAME) || !strcmp(name, "portable")) return &portable_kernels;
    return NULL;
}

static _Atomic(const struct float_kernels *) chosen;
static _Thread_local const struct float_kernels *of_thread;

static const struct float_kernels *kernels(void) {
    if (__builtin_expect(of_thread != NULL, 0)) return of_thread;
    const struct float_kernels *k = atomic_load_explicit(&chosen, memory_order_acquire);
    if (__builtin_expect(!k, 0)) {
        const char *wanted = getenv("ONEBYTE_KERNELS");
        k = wanted ? find(!strncmp(wanted, "avx512", 6) || !strcmp(wanted, "amx") ? "avx512" : wanted) : NULL;
        if (!k) k = find(NULL);
        atomic_store_explicit(&chosen, k, memory_order_release);
    }
    return k;
}

int onebyte_select_float_variant(const char *name) {
    of_thread = name ? find(name) : NULL;
    return !name || of_thread;
}

const char *onebyte_float_variant(void) {
    const struct float_kernels *k = kernels();
#if defined(__x86_64__)
    if (k == &avx512_kernels) return "avx512";
    if (k == &avx2_kernels) return "avx2";
#endif
    return k == &portable_kernels ? PORTABLE_NAME : "";
}

void onebyte_rms_norm(const float *x, const float *weight, float *y, size_t rows, size_t n, float epsilon) {
    kernels()->rms_norm(x, weight, y, rows, n, epsilon);
}
void onebyte_rope(float *x, size_t stride, const int32_t *positions, size_t rows, size_t heads, size_t head_size,
                  const float *cosine, const float *sine) {
    kernels()->rope(x, stride, positions, rows, heads, head_size, cosine, sine);
}
void onebyte_attend(const float *q, const float *k, size_t k_stride, const float *v, size_t v_stride, size_t count,
                    size_t heads, size_t kv_heads, size_t head_size, float scale, float *scores, float *out) {
    kernels()->attend(q, k, k_stride, v, v_stride, count, heads, kv_heads, head_size, scale, scores, out);
}
void onebyte_causal_softmax(float *scores, size_t stride, size_t rows, size_t first_visible, size_t n) {
    kernels()->causal_softmax(scores, stride, rows, first_visible, n);
}
void onebyte_swiglu(const float *gate, const float *up, size_t stride, float *out, size_t out_stride, size_t rows, size_t n) {
    kernels()->swiglu(gate, up, stride, out, out_stride, rows, n);
}
void onebyte_swiglu_rank1(const float *gate, const int8_t *a_gate, float gate_scale, const float *up, const int8_t *a_up,
                          float up_scale, float *out, size_t n) {
    kernels()->swiglu_rank1(gate, a_gate, gate_scale, up, a_up, up_scale, out, n);
}
float onebyte_dot_i8(const float *x, const int8_t *b, size_t n) { return kernels()->dot_i8(x, b, n); }
float onebyte_dot(const float *x, const float *y, size_t n) { return kernels()->dot(x, y, n); }
void onebyte_add_scaled_i8(float *y, const int8_t *a, float scale, size_t n) { kernels()->add_scaled_i8(y, a, scale, n); }
void onebyte_add_scaled(float *y, const float *x, float scale, size_t n) { kernels()->add_scaled(y, x, scale, n); }
void onebyte_sum_scaled_i8(const float *x, const int8_t *a, float scale, float *y, size_t n) {
    kernels()->sum_scaled_i8(x, a, scale, y, n);
}
void onebyte_two_sided(const float *w, const int8_t *z, float scale, float *plus, float *minus, size_t n) {
    kernels()->two_sided(w, z, scale, plus, minus, n);
}
void onebyte_log_sum_exp_parts(const float *x, size_t n, float *largest, float *sum) {
    kernels()->log_sum_exp_parts(x, n, largest, sum);
}
size_t onebyte_multiply_adds(size_t steps, float *sink) {
    // The processor's, whatever variant was asked for.
    return find(NULL)->multiply_adds(steps, sink);
}
