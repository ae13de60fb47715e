/* A growable text. `data` is always terminated and never NULL after init (an empty literal before the
 * first growth). A failed growth or a text over `most` bytes sticks in `failed`; later calls do nothing. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include "base/heap.h"
#include <stdarg.h>

typedef struct text {
    struct heap *heap;
    char *data;
    size_t size, capacity, most;
    heed_status failed; /* HEED_OK, HEED_ERR_MEMORY or HEED_ERR_LIMIT */
} text;

void heed__text_init(text *t, heap *h, size_t most); /* most 0: 1 GiB */
void heed__text_release(text *t);
void heed__text_clear(text *t);
void heed__text_add(text *t, const char *format, ...) HEED_PRINTF(2, 3);
void heed__text_vadd(text *t, const char *format, va_list args) HEED_PRINTF(2, 0);
void heed__text_put(text *t, const void *bytes, size_t n);
void heed__text_json(text *t, const char *string, size_t n); /* a JSON string literal, quotes included */

/* The shortest decimal that reads back the same, as a double or a float; "null" for NaN and infinities. */
void heed__text_number(text *t, double value);
void heed__text_float(text *t, float value);

char *heed__text_take(text *t); /* moves the block out (heed__release frees it); NULL when failed */

/* "encoder.*" stands for every name that begins with "encoder.", any other pattern for itself. */
bool heed__name_matches(const char *pattern, const char *name);

/* As snprintf, in every locale the same; what does not fit is cut off. */
void heed__format(char *to, size_t size, const char *format, ...) HEED_PRINTF(3, 4);

/* Bytes 1..4 of the UTF-8 character that begins at `bytes`, or 0 when none does (bad, cut off,
 * or left is 0). */
size_t heed__utf8_length(const char *bytes, size_t left);

bool heed__is_utf8(const char *bytes, size_t n);

#endif
