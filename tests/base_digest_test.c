/* CRC-32C and SHA-256: published answers, and the same result however the bytes are cut. */
#include "support/cmocka.h"
#include "base/digest.h"

#include <string.h>

static void crc32c_gives_the_published_answers(void **state)
{
    uint8_t bytes[32];

    (void)state;
    assert_int_equal(heed__crc32c_string("123456789"), 0xe3069283);
    assert_int_equal(heed__crc32c(0, NULL, 0), 0);
    memset(bytes, 0, 32); /* RFC 3720, B.4 */
    assert_int_equal(heed__crc32c(0, bytes, 32), 0x8a9136aa);
    memset(bytes, 255, 32);
    assert_int_equal(heed__crc32c(0, bytes, 32), 0x62a8ab43);
    for (uint8_t i = 0; i < 32; i++)
        bytes[i] = i;
    assert_int_equal(heed__crc32c(0, bytes, 32), 0x46dd794e);
}

static uint32_t crc_bit_by_bit(const uint8_t *b, size_t n)
{
    uint32_t crc = ~0u;

    for (; n; n--) {
        crc ^= *b++;
        for (int i = 0; i < 8; i++)
            crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
    }
    return ~crc;
}

static void fill(uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(i * i * 31 + i * 7 + (i >> 5));
}

static void crc32c_is_the_same_in_slices_and_in_parts(void **state)
{
    uint8_t bytes[300];

    (void)state;
    fill(bytes, sizeof bytes);
    for (size_t n = 0; n <= 256; n++) {
        const uint32_t want = crc_bit_by_bit(bytes, n);
        assert_int_equal(heed__crc32c(0, bytes, n), want);
        assert_int_equal(heed__crc32c(heed__crc32c(0, bytes, n / 3), bytes + n / 3, n - n / 3), want);
    }
}

static void check_sha(const void *bytes, size_t n, const char *want)
{
    uint8_t out[32];
    char hex[65];
    sha256 s;

    heed__sha256_init(&s);
    heed__sha256_add(&s, bytes, n);
    heed__sha256_end(&s, out);
    heed__hex(hex, out, 32);
    assert_string_equal(hex, want);
}

static void sha256_gives_the_published_answers(void **state)
{
    static const char two[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    static uint8_t million[1000000];

    (void)state;
    check_sha("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    check_sha("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    check_sha(two, 56, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    memset(million, 'a', sizeof million);
    check_sha(million, sizeof million, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

static void sha256_is_the_same_in_parts(void **state)
{
    uint8_t bytes[200], whole[32], parts[32];

    (void)state;
    fill(bytes, sizeof bytes);
    for (size_t n = 0; n <= 200; n++) { /* every place of the padding */
        sha256 s;

        heed__sha256_init(&s);
        heed__sha256_add(&s, bytes, n);
        heed__sha256_end(&s, whole);
        heed__sha256_init(&s);
        for (size_t at = 0, step = 1; at < n; at += step, step = step % 70 + 1)
            heed__sha256_add(&s, bytes + at, step < n - at ? step : n - at);
        heed__sha256_end(&s, parts);
        assert_memory_equal(whole, parts, 32);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c_gives_the_published_answers),
        cmocka_unit_test(crc32c_is_the_same_in_slices_and_in_parts),
        cmocka_unit_test(sha256_gives_the_published_answers),
        cmocka_unit_test(sha256_is_the_same_in_parts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
