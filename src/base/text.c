/* The growable text. `capacity` counts the terminator; 0 means that `data` is the empty literal. */
#include "base/text.h"
#include "base/sizes.h"
#include "base/os/os.h"

#include <math.h>
#include <string.h>

#define TEXT_MOST ((size_t)1 << 30)
#define TEXT_FIRST 64

static char *text_empty(void)
{
    return ""; /* never written: capacity is 0 */
}

void heed__text_init(text *t, heap *h, size_t most)
{
    *t = (text){ .heap = h, .data = text_empty(), .most = most ? most : TEXT_MOST };
}

void heed__text_release(text *t)
{
    if (t->capacity)
        heed__release(t->heap, t->data);
    heed__text_init(t, t->heap, t->most);
}

void heed__text_clear(text *t)
{
    t->size = 0;
    t->failed = HEED_OK;
    if (t->capacity)
        t->data[0] = '\0';
}

/* Room for `n` more bytes and the terminator; false when the text has failed, now or before. */
static bool text_reserve(text *t, size_t n)
{
    size_t size, capacity;
    char *grown;

    if (t->failed)
        return false;
    if (!heed__size_add(&size, t->size, n) || size > t->most) {
        t->failed = HEED_ERR_LIMIT;
        return false;
    }
    if (size < t->capacity)
        return true;
    capacity = t->capacity ? t->capacity : TEXT_FIRST;
    while (capacity <= size)
        if (!heed__size_mul(&capacity, capacity, 2))
            capacity = size + 1; /* size <= most < SIZE_MAX */
    grown = heed__resize(t->heap, t->capacity ? t->data : NULL, capacity, 1);
    if (!grown) {
        t->failed = HEED_ERR_MEMORY;
        return false;
    }
    t->data = grown;
    t->capacity = capacity;
    return true;
}

void heed__text_put(text *t, const void *bytes, size_t n)
{
    if (!n || !text_reserve(t, n))
        return;
    memcpy(t->data + t->size, bytes, n);
    t->size += n;
    t->data[t->size] = '\0';
}

void heed__text_vadd(text *t, const char *format, va_list args)
{
    va_list again;
    int n;

    if (t->failed)
        return;
    va_copy(again, args);
    n = heed__os_format(NULL, 0, format, again);
    va_end(again);
    if (n < 0) { /* longer than an int can say */
        t->failed = HEED_ERR_LIMIT;
        return;
    }
    if (!n || !text_reserve(t, (size_t)n))
        return;
    heed__os_format(t->data + t->size, (size_t)n + 1, format, args);
    t->size += (size_t)n;
}

void heed__text_add(text *t, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    heed__text_vadd(t, format, args);
    va_end(args);
}

/* The well-formed sequences of the Unicode standard, table 3-7: the second byte's range depends on the
 * first. */
size_t heed__utf8_length(const char *bytes, size_t left)
{
    const unsigned char *b = (const unsigned char *)bytes;
    size_t n;
    unsigned char low = 0x80, high = 0xbf;

    if (!left)
        return 0;
    if (b[0] < 0x80)
        return 1;
    n = b[0] >= 0xc2 && b[0] <= 0xdf   ? 2
        : b[0] >= 0xe0 && b[0] <= 0xef ? 3
        : b[0] >= 0xf0 && b[0] <= 0xf4 ? 4
                                       : 0;
    if (!n || left < n)
        return 0;
    if (b[0] == 0xe0)
        low = 0xa0; /* shorter forms exist below */
    else if (b[0] == 0xed)
        high = 0x9f; /* surrogates above */
    else if (b[0] == 0xf0)
        low = 0x90;
    else if (b[0] == 0xf4)
        high = 0x8f; /* U+10FFFF is the last */
    if (b[1] < low || b[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++)
        if ((b[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

void heed__text_json(text *t, const char *string, size_t n)
{
    static const char named[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    size_t at = 0;

    heed__text_put(t, "\"", 1);
    while (at < n && !t->failed) {
        const char *from = string + at;
        const size_t length = heed__utf8_length(from, n - at);
        const char *name = *from ? strchr(named, *from) : NULL;

        if (name)
            heed__text_add(t, "\\%c", letters[name - named]);
        else if (length == 1 && (unsigned char)*from < 0x20)
            heed__text_add(t, "\\u%04x", (unsigned)(unsigned char)*from);
        else if (length)
            heed__text_put(t, from, length);
        else
            heed__text_put(t, "\\ufffd", 6); /* what stands here is no text */
        at += length ? length : 1;
    }
    heed__text_put(t, "\"", 1);
}

#define TEXT_PLAIN_BELOW 1e15

/* 17 digits always read back for a double, 9 for a float; most numbers need fewer. %g turns to an exponent
 * when there are fewer digits than places before the point: more digits then write 100 instead of 1e+02. */
static void text_shortest(text *t, double value, bool single)
{
    char out[40];

    if (!isfinite(value)) {
        heed__text_put(t, "null", 4);
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        double back;

        heed__os_print_number(out, sizeof out, digits, value);
        back = heed__os_read_number(out);
        if ((single ? (float)back == (float)value : back == value) && /* heed-allow: exact by purpose */
            !(fabs(value) < TEXT_PLAIN_BELOW && strstr(out, "e+")))
            break;
    }
    heed__text_put(t, out, strlen(out));
}

void heed__text_number(text *t, double value)
{
    text_shortest(t, value, false);
}

void heed__text_float(text *t, float value)
{
    text_shortest(t, (double)value, true);
}

char *heed__text_take(text *t)
{
    char *out = NULL;

    if (!t->failed)
        out = t->capacity ? t->data : heed__alloc(t->heap, 1, 1);
    if (out)
        heed__text_init(t, t->heap, t->most);
    return out;
}

bool heed__name_matches(const char *pattern, const char *name)
{
    const size_t n = strlen(pattern);

    return n > 0 && pattern[n - 1] == '*' ? strncmp(pattern, name, n - 1) == 0 : strcmp(pattern, name) == 0;
}

void heed__format(char *to, size_t size, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)heed__os_format(to, size, format, args);
    va_end(args);
}

bool heed__is_utf8(const char *bytes, size_t n)
{
    for (size_t at = 0, length; at < n; at += length) {
        length = heed__utf8_length(bytes + at, n - at);
        if (!length)
            return false;
    }
    return true;
}
