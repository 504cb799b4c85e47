// Chooses the variant of the kernels at run time.
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "amx.h"
#include "variants.h"
#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#if defined(__x86_64__)
static int has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}
static int has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")
        && __builtin_cpu_supports("avx512vl");
}
static int has_vnni(void) { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }
static int has_vbmi(void) { return has_vnni() && __builtin_cpu_supports("avx512vbmi"); }
#elif defined(__aarch64__)
static int has_dot_products(void) {
#if defined(__linux__)
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
    return 1;  // every Apple processor on which Swift runs
#endif
}
static int always(void) { return 1; }
#endif

/// All variants, the best first. A new instruction set is a row here and the kernels that it names.
static const struct {
    int (*is_available)(void);
    ob_variant variant;
} registry[] = {
#if defined(__x86_64__)
    {ob_amx_is_available, {"amx", &ob_amx, &ob_avx512_floats, &ob_amx_differences, &ob_avx512vnni_quantised, ob_dequantise_avx512}},
    {has_vbmi, {"avx512vbmi", &ob_avx512vbmi, &ob_avx512_floats, &ob_avx512vnni_differences, &ob_avx512vnni_quantised, ob_dequantise_avx512}},
    {has_vnni, {"avx512vnni", &ob_avx512vnni, &ob_avx512_floats, &ob_avx512vnni_differences, &ob_avx512vnni_quantised, ob_dequantise_avx512}},
    // Without VNNI, AVX-512 has no sum of bytes that would make products of its own worthwhile.
    {has_avx512, {"avx512", &ob_avx512, &ob_avx512_floats, &ob_avx2_differences, &ob_avx2_quantised, ob_dequantise_avx512}},
    {has_avx2, {"avx2", &ob_avx2, &ob_avx2_floats, &ob_avx2_differences, &ob_avx2_quantised, ob_dequantise_avx2}},
#elif defined(__aarch64__)
    {has_dot_products, {"neondot", &ob_neondot, &ob_portable_floats, &ob_portable_differences, &ob_neondot_quantised, ob_dequantise_portable}},
    {always, {"neon", &ob_neon, &ob_portable_floats, &ob_portable_differences, &ob_portable_quantised, ob_dequantise_portable}},
#endif
    {0, {"portable", &ob_portable, &ob_portable_floats, &ob_portable_differences, &ob_portable_quantised, ob_dequantise_portable}},
};

static const ob_variant *available(size_t index) {
#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
    for (size_t i = 0; i < sizeof registry / sizeof registry[0]; i++) {
        if (registry[i].is_available && !registry[i].is_available()) continue;
        if (index-- == 0) return &registry[i].variant;
    }
    return 0;
}

static const ob_variant *named(const char *name) {
    const ob_variant *variant;
    for (size_t i = 0; (variant = available(i)); i++)
        if (!strcmp(variant->name, name)) return variant;
    return 0;
}

static _Atomic(const ob_variant *) of_process;
static _Thread_local const ob_variant *of_thread;

const ob_variant *ob_best_variant(void) { return available(0); }

const ob_variant *ob_current_variant(void) {
    if (__builtin_expect(of_thread != 0, 0)) return of_thread;
    const ob_variant *variant = atomic_load_explicit(&of_process, memory_order_relaxed);
    if (__builtin_expect(variant != 0, 1)) return variant;
    const char *wanted = getenv("ONEBYTE_KERNELS");
    variant = wanted ? named(wanted) : 0;
    if (!variant) variant = available(0);
    atomic_store_explicit(&of_process, variant, memory_order_relaxed);
    return variant;
}

const char *ob_kernels_name(void) { return ob_current_variant()->name; }

const char *ob_kernels_available(size_t index) {
    const ob_variant *variant = available(index);
    return variant ? variant->name : 0;
}

int ob_kernels_select(const char *name) {
    of_thread = name ? named(name) : 0;
    return !name || of_thread;
}
