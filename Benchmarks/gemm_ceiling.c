// Measures matrix products with a step's sizes on one core: each library that is named, and this project's own kernels. Their weights are
// floats, integers, integers with a direction (both signs), or pairs of gate and up with the activation.
//
//     clang -O3 -ffp-contract=off -ISources/Kernels/include Benchmarks/gemm_ceiling.c Sources/Kernels/floats.c -o gemm_ceiling -ldl -lm
//     OPENBLAS_NUM_THREADS=1 taskset -c 1 ./gemm_ceiling libopenblas.so.0
//
// Prints GFLOP/s, the best of six turns of processor time. The turns alternate between the implementations. First comes the rate of
// multiply-adds in registers, and last the largest difference of the own kernels from the first library. ONEBYTE_KERNELS chooses the own
// kernels' instruction set, OPENBLAS_CORETYPE OpenBLAS's kernels.
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "kernels.h"

enum { LIBRARIES_MAX = 4, OWN = 4 };

typedef void (*sgemm)(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *, int);

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void *allocate(size_t bytes) {
    void *found = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!found) exit((fprintf(stderr, "gemm_ceiling: out of memory\n"), 1));
    return found;
}

int main(int count, char **names) {
    static const size_t shapes[][3] = {{1024, 576, 576}, {1024, 576, 3072}, {1024, 1536, 576}, {512, 576, 3072}, {104, 576, 3072}, {25, 576, 3072},
                                       {7, 576, 3072}};
    static const char *const forms[OWN] = {"floats", "integers", "perturbed", "gated"};
    const float scale = 0x1p-24f;
    sgemm products[LIBRARIES_MAX];
    const int libraries = count - 1;
    if (libraries < 1 || libraries > LIBRARIES_MAX) return fprintf(stderr, "gemm_ceiling: name one to four libraries with cblas_sgemm\n"), 2;
    for (int l = 0; l < libraries; l++) {
        void *library = dlopen(names[l + 1], RTLD_NOW | RTLD_LOCAL);
        products[l] = library ? (sgemm)dlsym(library, "cblas_sgemm") : NULL;
        if (!products[l]) return fprintf(stderr, "gemm_ceiling: %s\n", dlerror()), 1;
    }
    float sink = 1;
    double peak = 0;
    for (int turn = 0; turn < 6; turn++) {
        const double start = now(), operations = (double)ob_multiply_adds(1 << 20, &sink);
        peak = fmax(peak, 1e-9 * operations / (now() - start));
    }
    printf("multiply-adds in registers %.0f, our own products %s\n", peak, ob_float_variant());
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        const size_t rows = shapes[s][0], inputs = shapes[s][1], outputs = shapes[s][2], weights = outputs * inputs;
        // Rows of a layer's 1,536 inner states are padded.
        const size_t stride = inputs == 1536 ? inputs + 16 : inputs, y_stride = outputs + 16;
        float *x = allocate(4 * rows * stride), *w = allocate(4 * weights), *y = allocate(4 * rows * y_stride), *own = allocate(4 * rows * y_stride);
        float *scratch = allocate(4 * ob_product_scratch(inputs));
        int32_t *k = allocate(4 * weights);
        int8_t *z = allocate(weights);
        for (size_t i = 0; i < rows * stride; i++) x[i] = sinf((float)i);
        for (size_t i = 0; i < weights; i++) k[i] = (int32_t)(cosf((float)i) * 0x1p20f), w[i] = (float)k[i] * scale, z[i] = (int8_t)(i * i);
        const ob_matrix floats = {.outputs = outputs, .inputs = inputs, .floats = w};
        const ob_matrix integers = {.outputs = outputs, .inputs = inputs, .fixed = k, .fixed_scale = scale};
        const ob_matrix perturbed = {.outputs = outputs, .inputs = inputs, .fixed = k, .fixed_scale = scale, .direction = z, .direction_scale = 1e-5f};
        const ob_matrix gate = {.outputs = outputs / 2, .inputs = inputs, .fixed = k, .fixed_scale = scale};
        const ob_matrix up = {.outputs = outputs / 2, .inputs = inputs, .fixed = k + weights / 2, .fixed_scale = scale};
        double best[LIBRARIES_MAX + OWN] = {0};
        for (int turn = 0; turn < 6; turn++)
            for (int l = libraries + OWN - 1; l >= 0; l--) {
                const double start = now();
                size_t done = 0;
                do {
                    if (l < libraries)
                        products[l](101, 111, 112, (int)rows, (int)outputs, (int)inputs, 1, x, (int)stride, w, (int)inputs, 0, y, (int)y_stride);
                    else if (l == libraries) ob_product(x, stride, rows, rows, &floats, NULL, own, y_stride, 0, scratch);
                    else if (l == libraries + 1) ob_product(x, stride, rows, rows, &integers, NULL, own, y_stride, 0, scratch);
                    else if (l == libraries + 2) ob_product(x, stride, rows, rows / 2, &perturbed, NULL, own, y_stride, 0, scratch);
                    else ob_gated_product(OB_SILU, x, stride, rows, rows, &gate, &up, NULL, NULL, own, y_stride, scratch);
                    done++;
                } while (now() - start < 0.2);
                const double rate = 2e-9 * (double)(rows * weights * done) / (now() - start);
                if (rate > best[l]) best[l] = rate;
            }
        ob_product(x, stride, rows, rows, &integers, NULL, own, y_stride, 0, scratch);
        float difference = 0;
        for (size_t r = 0; r < rows; r++)
            for (size_t o = 0; o < outputs; o++) difference = fmaxf(difference, fabsf(y[r * y_stride + o] - own[r * y_stride + o]));
        printf("%zu x %zu -> %zu:", rows, inputs, outputs);
        for (int l = 0; l < libraries; l++) printf(" %s %.0f", names[l + 1], best[l]);
        for (int form = 0; form < OWN; form++) printf("%s %s %.0f", form ? "," : "; ours:", forms[form], best[libraries + form]);
        printf(" (differs by %.1e)\n", difference);
        fflush(stdout);
        free(x), free(w), free(y), free(own), free(scratch), free(k), free(z);
    }
    return 0;
}
