/* CRC-32C by slices of eight bytes, and SHA-256.
 *
 * The CRC of a byte is linear in its bits, so a table of 256 entries follows from eight: entry n is the
 * sum (exclusive or) of those whose bit is set in n. crc_table[k][n] is byte n followed by k zero bytes. */
#include "base/digest.h"

#include <string.h>

#define CRC_BIT(n, bit, value) ((n) >> (bit)&1 ? (value) : 0u)
#define CRC_ENTRY(n, a, b, c, d, e, f, g, h)                                                                 \
    (CRC_BIT(n, 0, a) ^ CRC_BIT(n, 1, b) ^ CRC_BIT(n, 2, c) ^ CRC_BIT(n, 3, d) ^ CRC_BIT(n, 4, e) ^          \
     CRC_BIT(n, 5, f) ^ CRC_BIT(n, 6, g) ^ CRC_BIT(n, 7, h))
#define CRC_4(n, ...)                                                                                        \
    CRC_ENTRY(n, __VA_ARGS__), CRC_ENTRY((n) + 1, __VA_ARGS__), CRC_ENTRY((n) + 2, __VA_ARGS__),             \
        CRC_ENTRY((n) + 3, __VA_ARGS__)
#define CRC_16(n, ...)                                                                                       \
    CRC_4(n, __VA_ARGS__), CRC_4((n) + 4, __VA_ARGS__), CRC_4((n) + 8, __VA_ARGS__),                         \
        CRC_4((n) + 12, __VA_ARGS__)
#define CRC_64(n, ...)                                                                                       \
    CRC_16(n, __VA_ARGS__), CRC_16((n) + 16, __VA_ARGS__), CRC_16((n) + 32, __VA_ARGS__),                    \
        CRC_16((n) + 48, __VA_ARGS__)
#define CRC_SLICE(...)                                                                                       \
    {                                                                                                        \
        CRC_64(0u, __VA_ARGS__), CRC_64(64u, __VA_ARGS__), CRC_64(128u, __VA_ARGS__),                        \
            CRC_64(192u, __VA_ARGS__)                                                                        \
    }

/* clang-format off */
static const uint32_t crc_table[8][256] = {
    CRC_SLICE(0xf26b8303u, 0xe13b70f7u, 0xc79a971fu, 0x8ad958cfu,
              0x105ec76fu, 0x20bd8edeu, 0x417b1dbcu, 0x82f63b78u),
    CRC_SLICE(0x13a29877u, 0x274530eeu, 0x4e8a61dcu, 0x9d14c3b8u,
              0x3fc5f181u, 0x7f8be302u, 0xff17c604u, 0xfbc3faf9u),
    CRC_SLICE(0xa541927eu, 0x4f6f520du, 0x9edea41au, 0x38513ec5u,
              0x70a27d8au, 0xe144fb14u, 0xc76580d9u, 0x8b277743u),
    CRC_SLICE(0xdd45aab8u, 0xbf672381u, 0x7b2231f3u, 0xf64463e6u,
              0xe964b13du, 0xd725148bu, 0xaba65fe7u, 0x52a0c93fu),
    CRC_SLICE(0x38116facu, 0x7022df58u, 0xe045beb0u, 0xc5670b91u,
              0x8f2261d3u, 0x1ba8b557u, 0x37516aaeu, 0x6ea2d55cu),
    CRC_SLICE(0xef306b19u, 0xdb8ca0c3u, 0xb2f53777u, 0x6006181fu,
              0xc00c303eu, 0x85f4168du, 0x0e045bebu, 0x1c08b7d6u),
    CRC_SLICE(0x68032cc8u, 0xd0065990u, 0xa5e0c5d1u, 0x4e2dfd53u,
              0x9c5bfaa6u, 0x3d5b83bdu, 0x7ab7077au, 0xf56e0ef4u),
    CRC_SLICE(0x493c7d27u, 0x9278fa4eu, 0x211d826du, 0x423b04dau,
              0x847609b4u, 0x0d006599u, 0x1a00cb32u, 0x34019664u),
};
/* clang-format on */

static uint32_t digest_u32le(const uint8_t *b)
{
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

uint32_t heed__crc32c(uint32_t crc, const void *bytes, size_t n)
{
    const uint8_t *b = bytes;

    crc = ~crc;
    for (; n >= 8; n -= 8, b += 8) {
        const uint32_t low = crc ^ digest_u32le(b), high = digest_u32le(b + 4);

        crc = crc_table[7][low & 255] ^ crc_table[6][low >> 8 & 255] ^ crc_table[5][low >> 16 & 255] ^
              crc_table[4][low >> 24] ^ crc_table[3][high & 255] ^ crc_table[2][high >> 8 & 255] ^
              crc_table[1][high >> 16 & 255] ^ crc_table[0][high >> 24];
    }
    for (; n; n--, b++)
        crc = crc >> 8 ^ crc_table[0][(crc ^ *b) & 255];
    return ~crc;
}

uint32_t heed__crc32c_string(const char *text)
{
    return heed__crc32c(0, text, strlen(text));
}

/* The first 32 bits behind the point of the cube roots of the first 64 primes. */
/* clang-format off */
static const uint32_t sha_k[64] = {
    0x428a2f98u, 0x71374491u, 0xb5c0fbcfu, 0xe9b5dba5u, 0x3956c25bu, 0x59f111f1u, 0x923f82a4u, 0xab1c5ed5u,
    0xd807aa98u, 0x12835b01u, 0x243185beu, 0x550c7dc3u, 0x72be5d74u, 0x80deb1feu, 0x9bdc06a7u, 0xc19bf174u,
    0xe49b69c1u, 0xefbe4786u, 0x0fc19dc6u, 0x240ca1ccu, 0x2de92c6fu, 0x4a7484aau, 0x5cb0a9dcu, 0x76f988dau,
    0x983e5152u, 0xa831c66du, 0xb00327c8u, 0xbf597fc7u, 0xc6e00bf3u, 0xd5a79147u, 0x06ca6351u, 0x14292967u,
    0x27b70a85u, 0x2e1b2138u, 0x4d2c6dfcu, 0x53380d13u, 0x650a7354u, 0x766a0abbu, 0x81c2c92eu, 0x92722c85u,
    0xa2bfe8a1u, 0xa81a664bu, 0xc24b8b70u, 0xc76c51a3u, 0xd192e819u, 0xd6990624u, 0xf40e3585u, 0x106aa070u,
    0x19a4c116u, 0x1e376c08u, 0x2748774cu, 0x34b0bcb5u, 0x391c0cb3u, 0x4ed8aa4au, 0x5b9cca4fu, 0x682e6ff3u,
    0x748f82eeu, 0x78a5636fu, 0x84c87814u, 0x8cc70208u, 0x90befffau, 0xa4506cebu, 0xbef9a3f7u, 0xc67178f2u,
};
/* clang-format on */

static uint32_t sha_turn(uint32_t x, unsigned by)
{
    return x >> by | x << (32 - by);
}

static void sha_block(uint32_t state[8], const uint8_t block[64])
{
    uint32_t w[64], s[8];

    for (int t = 0; t < 16; t++, block += 4)
        w[t] = (uint32_t)block[0] << 24 | (uint32_t)block[1] << 16 | (uint32_t)block[2] << 8 | block[3];
    for (int t = 16; t < 64; t++) {
        const uint32_t a = w[t - 15], b = w[t - 2];
        w[t] = w[t - 16] + (sha_turn(a, 7) ^ sha_turn(a, 18) ^ a >> 3) + w[t - 7] +
               (sha_turn(b, 17) ^ sha_turn(b, 19) ^ b >> 10);
    }
    memcpy(s, state, sizeof s);
    for (int t = 0; t < 64; t++) {
        const uint32_t a = s[0], e = s[4];
        const uint32_t one = s[7] + (sha_turn(e, 6) ^ sha_turn(e, 11) ^ sha_turn(e, 25)) +
                             ((e & s[5]) ^ (~e & s[6])) + sha_k[t] + w[t];
        const uint32_t two =
            (sha_turn(a, 2) ^ sha_turn(a, 13) ^ sha_turn(a, 22)) + ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));

        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += one;
        s[0] = one + two;
    }
    for (int i = 0; i < 8; i++)
        state[i] += s[i];
}

void heed__sha256_init(sha256 *s)
{
    static const uint32_t start[8] = { 0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au,
                                       0x510e527fu, 0x9b05688cu, 0x1f83d9abu, 0x5be0cd19u };

    memcpy(s->state, start, sizeof start);
    s->bytes = 0;
}

void heed__sha256_add(sha256 *s, const void *bytes, size_t n)
{
    const uint8_t *b = bytes;
    const size_t held = s->bytes % 64;

    s->bytes += n;
    if (held) {
        const size_t room = 64 - held, now = n < room ? n : room;

        memcpy(s->block + held, b, now);
        if (held + now < 64)
            return;
        sha_block(s->state, s->block);
        b += now;
        n -= now;
    }
    for (; n >= 64; n -= 64, b += 64)
        sha_block(s->state, b);
    if (n)
        memcpy(s->block, b, n);
}

void heed__sha256_end(sha256 *s, uint8_t out[32])
{
    static const uint8_t padding[64] = { 0x80 };
    const uint64_t bits = 8 * s->bytes;
    const size_t held = s->bytes % 64;
    uint8_t length[8];

    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)(bits >> (56 - 8 * i));
    heed__sha256_add(s, padding, held < 56 ? 56 - held : 120 - held);
    heed__sha256_add(s, length, sizeof length);
    for (int i = 0; i < 32; i++)
        out[i] = (uint8_t)(s->state[i / 4] >> (24 - 8 * (i % 4)));
}

void heed__hex(char *out, const uint8_t *bytes, size_t n)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * n] = '\0';
}
