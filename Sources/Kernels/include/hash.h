// SHA-256 (FIPS 180-4) and CRC-32C (RFC 3720), with the processor's own instructions if it has them.
#ifndef ONEBYTE_HASH_H
#define ONEBYTE_HASH_H
#include <stddef.h>
#include <stdint.h>

/// Compresses `blocks` blocks of 64 bytes into the state.
void ob_sha256_blocks(uint32_t state[8], const uint8_t *data, size_t blocks);

/// Returns the CRC-32C of `data` after a part whose CRC is `crc` (0 at the beginning).
uint32_t ob_crc32c(uint32_t crc, const uint8_t *data, size_t count);

/// The same without special instructions, for comparison in tests.
void ob_sha256_blocks_portable(uint32_t state[8], const uint8_t *data, size_t blocks);
uint32_t ob_crc32c_portable(uint32_t crc, const uint8_t *data, size_t count);
#endif
