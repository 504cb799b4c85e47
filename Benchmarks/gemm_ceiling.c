// What matrix products of the step's shapes reach on one core with AVX-512: each library that is named, and a kernel of 14 rows by 32
// outputs on weights that were packed ahead, so that nothing is left to copy.
//
//     clang -O3 -mavx512f -mfma Benchmarks/gemm_ceiling.c -o gemm_ceiling -ldl -lm
//     OPENBLAS_CORETYPE=SkylakeX OPENBLAS_NUM_THREADS=1 BLIS_ARCH_TYPE=skx taskset -c 1 ./gemm_ceiling libopenblas.so.0 …/blis-serial/libblas.so.3
//
// Prints GFLOP/s, the best of six turns of processor time, by turns; and the largest difference of the kernel from the first library.
#include <dlfcn.h>
#include <immintrin.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ROWS = 14, PANEL = 32, DEPTH = 576, BAND = 112, LIBRARIES_MAX = 4 };

typedef void (*sgemm)(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *, int);

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/// Panels of 32 outputs, and in each for every input 32 floats.
static void pack(const float *w, long outputs, long inputs, float *packed) {
    for (long o = 0; o < outputs; o += PANEL)
        for (long i = 0; i < inputs; i++)
            for (long j = 0; j < PANEL; j++) *packed++ = w[(o + j) * inputs + i];
}

static inline __attribute__((always_inline)) void tile(const float *x, long stride, const float *panel, long depth, float *y, long y_stride, int adds,
                                                       int rows) {
    __m512 sums[ROWS][2];
    for (int r = 0; r < rows; r++)
        for (int h = 0; h < 2; h++) sums[r][h] = adds ? _mm512_loadu_ps(y + r * y_stride + 16 * h) : _mm512_setzero_ps();
    const float *part[4] = {x, x + 4 * stride, x + 8 * stride, x + 12 * stride};
#pragma clang loop unroll(disable)
    for (long i = 0; i < depth; i++, panel += PANEL) {
        const __m512 left = _mm512_loadu_ps(panel), right = _mm512_loadu_ps(panel + 16);
#pragma unroll
        for (int r = 0; r < rows; r++) {
            const __m512 value = _mm512_set1_ps(part[r / 4][r % 4 * stride + i]);
            sums[r][0] = _mm512_fmadd_ps(value, left, sums[r][0]);
            sums[r][1] = _mm512_fmadd_ps(value, right, sums[r][1]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int h = 0; h < 2; h++) _mm512_storeu_ps(y + r * y_stride + 16 * h, sums[r][h]);
}

static void multiply(const float *x, long rows, long inputs, const float *packed, long outputs, float *y) {
    for (long first = 0; first < inputs; first += DEPTH) {
        const long depth = inputs - first < DEPTH ? inputs - first : DEPTH;
        for (long band = 0; band < rows; band += BAND)
            for (long o = 0; o < outputs; o += PANEL)
                for (long row = band; row < rows && row < band + BAND;) {
                    const float *from = x + row * inputs + first, *panel = packed + o * inputs + first * PANEL;
                    float *to = y + row * outputs + o;
                    const long left = (rows < band + BAND ? rows : band + BAND) - row;
                    if (left >= ROWS) tile(from, inputs, panel, depth, to, outputs, first > 0, ROWS), row += ROWS;
                    else if (left >= 8) tile(from, inputs, panel, depth, to, outputs, first > 0, 8), row += 8;
                    else if (left >= 4) tile(from, inputs, panel, depth, to, outputs, first > 0, 4), row += 4;
                    else tile(from, inputs, panel, depth, to, outputs, first > 0, 1), row += 1;
                }
    }
}

int main(int count, char **names) {
    static const long shapes[][3] = {{512, 576, 960}, {512, 576, 576}, {512, 576, 3072}, {512, 1536, 576}, {1024, 576, 3072}, {1024, 1536, 576},
                                     {25, 576, 3072}, {104, 576, 3072}};
    sgemm products[LIBRARIES_MAX];
    const int libraries = count - 1;
    if (libraries < 1 || libraries > LIBRARIES_MAX) return fprintf(stderr, "gemm_ceiling: name one to four libraries with cblas_sgemm\n"), 2;
    for (int l = 0; l < libraries; l++) {
        void *library = dlopen(names[l + 1], RTLD_NOW | RTLD_LOCAL);
        products[l] = library ? (sgemm)dlsym(library, "cblas_sgemm") : NULL;
        if (!products[l]) return fprintf(stderr, "gemm_ceiling: %s\n", dlerror()), 1;
    }
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        const long rows = shapes[s][0], inputs = shapes[s][1], outputs = shapes[s][2];
        float *x = malloc(sizeof(float) * rows * inputs), *w = malloc(sizeof(float) * outputs * inputs), *packed = malloc(sizeof(float) * outputs * inputs);
        float *y = malloc(sizeof(float) * rows * outputs), *own = malloc(sizeof(float) * rows * outputs);
        if (!x || !w || !packed || !y || !own) return fprintf(stderr, "gemm_ceiling: out of memory\n"), 1;
        for (long i = 0; i < rows * inputs; i++) x[i] = sinf((float)i);
        for (long i = 0; i < outputs * inputs; i++) w[i] = cosf((float)i);
        pack(w, outputs, inputs, packed);
        double best[LIBRARIES_MAX + 1] = {0};
        for (int turn = 0; turn < 6; turn++)
            for (int l = libraries; l >= 0; l--) {  // the first library last: its y is compared
                const double start = now();
                long done = 0;
                do {
                    if (l < libraries) products[l](101, 111, 112, (int)rows, (int)outputs, (int)inputs, 1, x, (int)inputs, w, (int)inputs, 0, y, (int)outputs);
                    else multiply(x, rows, inputs, packed, outputs, own);
                    done++;
                } while (now() - start < 0.2);
                const double rate = 2e-9 * (double)rows * (double)outputs * (double)inputs * (double)done / (now() - start);
                if (rate > best[l]) best[l] = rate;
            }
        float difference = 0;
        for (long i = 0; i < rows * outputs; i++) difference = fmaxf(difference, fabsf(y[i] - own[i]));
        printf("%ld x %ld -> %ld:", rows, inputs, outputs);
        for (int l = 0; l < libraries; l++) printf(" %s %.0f", names[l + 1], best[l]);
        printf(" packed ahead %.0f (differs by %.1e)\n", best[libraries], difference);
        fflush(stdout);
        free(x), free(w), free(packed), free(y), free(own);
    }
    return 0;
}
