// AMX: tiles of up to 16 rows of 64 bytes, and their products of bytes summed in 32 bits (Intel SDM, volume 1, chapter 18).
#ifndef ONEBYTE_AMX_H
#define ONEBYTE_AMX_H
#if defined(__x86_64__)
#include <immintrin.h>
#include <stdint.h>

#define AMX __attribute__((target("avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,amx-tile,amx-int8")))

enum { OB_TILE_ROWS = 16, OB_TILE_COLUMN_BYTES = 64 };

/// The shapes of the eight tiles in the form of LDTILECFG (palette 1). A tile without rows must not be used.
typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t column_bytes[16];
    uint8_t rows[16];
} ob_tile_shapes;

static inline void ob_shape_tile(ob_tile_shapes *shapes, int tile, size_t rows, size_t column_bytes) {
    shapes->palette = 1;
    shapes->rows[tile] = (uint8_t)rows;
    shapes->column_bytes[tile] = (uint16_t)column_bytes;
}

/// Whether the processor has AMX for bytes and AVX-512 with VNNI, and the kernel lets this process use it.
int ob_amx_is_available(void);
#endif
#endif
