/* The byte cursor: the only thing that touches bytes from outside. The first failure sticks; later reads
 * return 0 or an empty child. Ask for the status once, after the reads. */
#ifndef BASE_CURSOR_H
#define BASE_CURSOR_H

#include <heed/base.h>

typedef struct cursor {
    const uint8_t *data; /* borrowed */
    size_t size, at;
    uint64_t origin; /* offset of data[0] in the whole input, for messages */
    heed_status failed;
    uint64_t failed_at;
    const char *rule; /* what was broken: a literal */
} cursor;

cursor heed__cursor(const void *data, size_t size);
size_t heed__cursor_left(const cursor *c);
uint8_t heed__u8(cursor *c);
uint16_t heed__u16le(cursor *c);
uint32_t heed__u32le(cursor *c);
uint64_t heed__u64le(cursor *c);
uint32_t heed__u32be(cursor *c);
int heed__peek(const cursor *c);                    /* the next byte, or -1 at the end or after a failure */
bool heed__literal(cursor *c, const char *bytes);   /* consumes it if it stands there */
const uint8_t *heed__bytes(cursor *c, uint64_t n);  /* NULL on failure or n == 0 */
/* A child that sees n bytes; fails, and so does the child, when they are not there or n > limit. */
cursor heed__take(cursor *c, uint64_t n, uint64_t limit);

/* rule: a literal, "the header ends in ..." */
void heed__cursor_fail(cursor *c, heed_status code, const char *rule);

/* name: of the file, for err->path; may be NULL. */
heed_status heed__cursor_status(const cursor *c, const char *name, heed_error *err);

#endif
