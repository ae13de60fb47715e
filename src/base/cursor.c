/* The byte cursor. Invariant: at <= size; after a failure nothing moves any more. */
#include "base/cursor.h"
#include "base/error.h"

#include <inttypes.h>
#include <string.h>

#define CURSOR_ENDED "the data ends before this is complete"

cursor heed__cursor(const void *data, size_t size)
{
    return (cursor){ .data = data, .size = size };
}

size_t heed__cursor_left(const cursor *c)
{
    return c->failed ? 0 : c->size - c->at;
}

void heed__cursor_fail(cursor *c, heed_status code, const char *rule)
{
    if (c->failed)
        return;
    c->failed = code;
    c->failed_at = c->origin + c->at;
    c->rule = rule;
}

const uint8_t *heed__bytes(cursor *c, uint64_t n)
{
    const uint8_t *from;

    if (c->failed || !n)
        return NULL;
    if (n > c->size - c->at) {
        heed__cursor_fail(c, HEED_ERR_FORMAT, CURSOR_ENDED);
        return NULL;
    }
    from = c->data + c->at;
    c->at += (size_t)n;
    return from;
}

static uint64_t cursor_le(cursor *c, unsigned n)
{
    const uint8_t *b = heed__bytes(c, n);
    uint64_t value = 0;

    for (unsigned i = 0; b && i < n; i++)
        value |= (uint64_t)b[i] << (8 * i);
    return value;
}

uint8_t heed__u8(cursor *c)
{
    return (uint8_t)cursor_le(c, 1);
}

uint16_t heed__u16le(cursor *c)
{
    return (uint16_t)cursor_le(c, 2);
}

uint32_t heed__u32le(cursor *c)
{
    return (uint32_t)cursor_le(c, 4);
}

uint64_t heed__u64le(cursor *c)
{
    return cursor_le(c, 8);
}

uint32_t heed__u32be(cursor *c)
{
    const uint8_t *b = heed__bytes(c, 4);

    return b ? (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3] : 0;
}

int heed__peek(const cursor *c)
{
    return heed__cursor_left(c) ? c->data[c->at] : -1;
}

bool heed__literal(cursor *c, const char *bytes)
{
    const size_t n = strlen(bytes);

    if (n > heed__cursor_left(c) || (n && memcmp(c->data + c->at, bytes, n) != 0))
        return false;
    c->at += n;
    return !c->failed;
}

cursor heed__take(cursor *c, uint64_t n, uint64_t limit)
{
    cursor child = { .origin = c->origin + c->at };

    if (!c->failed && n > c->size - c->at)
        heed__cursor_fail(c, HEED_ERR_FORMAT, "a length reaches behind the end of the data");
    if (n > limit)
        heed__cursor_fail(c, HEED_ERR_LIMIT, "a length is over the limit");
    if (c->failed) {
        child.failed = c->failed;
        child.failed_at = c->failed_at;
        child.rule = c->rule;
        return child;
    }
    child.data = c->data + c->at;
    child.size = (size_t)n;
    c->at += (size_t)n;
    return child;
}

heed_status heed__cursor_status(const cursor *c, const char *name, heed_error *err)
{
    if (c->failed)
        heed__fail_at(err, c->failed, name, "at byte %" PRIu64 ": %s", c->failed_at, c->rule);
    return c->failed;
}
