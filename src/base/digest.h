/* CRC-32C (Castagnoli, reflected 0x82F63B78) and SHA-256 (FIPS 180-4). */
#ifndef BASE_DIGEST_H
#define BASE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

/* crc of bytes that follow bytes whose crc is `crc` (0 at the start); crc("123456789") = 0xe3069283. */
uint32_t heed__crc32c(uint32_t crc, const void *bytes, size_t n);
uint32_t heed__crc32c_string(const char *text);

typedef struct sha256 {
    uint32_t state[8];
    uint64_t bytes;
    uint8_t block[64];
} sha256;

void heed__sha256_init(sha256 *s);
void heed__sha256_add(sha256 *s, const void *bytes, size_t n);
void heed__sha256_end(sha256 *s, uint8_t out[32]);
void heed__hex(char *out, const uint8_t *bytes, size_t n); /* 2n digits and a terminator */

#endif
