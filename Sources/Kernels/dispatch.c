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

static const ob_kernels *available(size_t index) {
    const ob_kernels *found[6];
    size_t count = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    int avx2 = __builtin_cpu_supports("avx2");
    int avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (ob_amx_is_available()) found[count++] = &ob_amx;
    int vnni = avx512 && __builtin_cpu_supports("avx512vnni");
    if (vnni && __builtin_cpu_supports("avx512vbmi")) found[count++] = &ob_avx512vbmi;
    if (vnni) found[count++] = &ob_avx512vnni;
    if (avx512) found[count++] = &ob_avx512;
    if (avx2) found[count++] = &ob_avx2;
#elif defined(__aarch64__)
#if defined(__linux__)
    if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) found[count++] = &ob_neondot;
#else
    found[count++] = &ob_neondot;  // every Apple processor on which Swift runs
#endif
    found[count++] = &ob_neon;
#endif
    found[count++] = &ob_portable;
    return index < count ? found[index] : 0;
}

static const ob_kernels *named(const char *name) {
    const ob_kernels *kernels;
    for (size_t i = 0; (kernels = available(i)); i++)
        if (!strcmp(kernels->name, name)) return kernels;
    return 0;
}

static _Atomic(const ob_kernels *) of_process;
static _Thread_local const ob_kernels *of_thread;

const ob_kernels *ob_current(void) {
    if (of_thread) return of_thread;
    const ob_kernels *kernels = atomic_load_explicit(&of_process, memory_order_relaxed);
    if (kernels) return kernels;
    const char *wanted = getenv("ONEBYTE_KERNELS");
    kernels = wanted ? named(wanted) : 0;
    if (!kernels) kernels = available(0);
    atomic_store_explicit(&of_process, kernels, memory_order_relaxed);
    return kernels;
}

const char *ob_kernels_name(void) { return ob_current()->name; }

const char *ob_kernels_available(size_t index) {
    const ob_kernels *kernels = available(index);
    return kernels ? kernels->name : 0;
}

int ob_kernels_select(const char *name) {
    of_thread = name ? named(name) : 0;
    return !name || of_thread;
}
