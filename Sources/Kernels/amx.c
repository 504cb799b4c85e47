// Finds out whether this process may use AMX.
#if defined(__x86_64__)
#include <cpuid.h>
#include <stdatomic.h>
#include "amx.h"
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>

/// Linux gives a process the 8 KiB of a thread's tiles only when it asks (Documentation/arch/x86/xstate.rst).
static int is_granted(void) {
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}
#else
static int is_granted(void) { return 0; }
#endif

static int is_there(void) {
    enum { AMX_TILE = 1 << 24, AMX_INT8 = 1 << 25 };
    unsigned a, b, c, d;
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __get_cpuid_count(7, 0, &a, &b, &c, &d)
        && d & AMX_TILE && d & AMX_INT8 && is_granted();
}

int ob_amx_is_available(void) {
    static _Atomic int known;  // 0: not known yet; otherwise the answer plus 1
    int answer = atomic_load_explicit(&known, memory_order_relaxed);
    if (!answer) {
        answer = 1 + is_there();
        atomic_store_explicit(&known, answer, memory_order_relaxed);
    }
    return answer - 1;
}
#else
typedef int ob_no_amx_here;
#endif
