/* PGM and PPM (netpbm): "P2" and "P3" are text, "P5" and "P6" bytes; then width, height and the largest
 * sample, as numbers between blanks and comments; then the samples, row by row.
 *
 *   sample v of a file whose largest is m  ->  v * 255 / m, rounded to nearest, ties to the even number
 *
 * which is what PIL computes. A binary file has one blank behind m, samples of two bytes (big-endian) when
 * m > 255, and ends with its picture: netpbm allows more pictures to follow, and reading the first of
 * several would hide the rest. */

#include "image/image.h"
#include "base/cursor.h"
#include "base/sizes.h"

#include <inttypes.h>

#define PNM_NUMBER_MOST 1000000000
#define PNM_SAMPLE_MOST 65535u

typedef struct pnm {
    image_job *image;
    cursor in;
    int channels;
    uint32_t width, height, most;
} pnm;

static bool pnm_blank(int byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

/* Blanks, and comments from # to the end of their line. */
static void pnm_skip(cursor *c)
{
    bool comment = false;
    int next;

    while ((next = heed__peek(c)) >= 0 && (comment || next == '#' || pnm_blank(next))) {
        comment = next == '#' || (comment && next != '\n' && next != '\r');
        heed__u8(c);
    }
}

/* A number, and what stands before it. */
static uint32_t pnm_number(cursor *c)
{
    uint64_t value = 0; /* ten times the most is more than 32 bits hold */
    int next, digits = 0;

    pnm_skip(c);
    while ((next = heed__peek(c)) >= '0' && next <= '9') {
        value = value * 10 + (uint64_t)(next - '0');
        digits++;
        if (value > PNM_NUMBER_MOST)
            heed__cursor_fail(c, HEED_ERR_FORMAT, "a number is too large");
        heed__u8(c);
    }
    if (digits == 0)
        heed__cursor_fail(c, HEED_ERR_FORMAT,
                          next < 0 ? "the data ends where a number should stand"
                                   : "this is no decimal number");
    return c->failed ? 0 : (uint32_t)value;
}

static heed_status pnm_head(pnm *p)
{
    image_job *j = p->image;

    heed__u8(&p->in);
    p->channels = heed__u8(&p->in) % 3 == 2 ? 1 : 3; /* '2' is 50, '5' 53 */
    if (!pnm_blank(heed__peek(&p->in)) && heed__peek(&p->in) != '#')
        heed__cursor_fail(&p->in, HEED_ERR_FORMAT, "a blank stands behind the first two bytes");
    p->width = pnm_number(&p->in);
    p->height = pnm_number(&p->in);
    p->most = pnm_number(&p->in);
    TRY(heed__cursor_status(&p->in, j->name, j->err));
    if (p->most < 1 || p->most > PNM_SAMPLE_MOST)
        return heed__image_refuse(j, "the largest sample is %" PRIu32 "; 1 to %u are possible", p->most,
                                  PNM_SAMPLE_MOST);
    return heed__image_allowed(j->ctx, j->name, p->width, p->height, j->err);
}

/* v * 255 / m to the nearest number, of two the even one. */
static uint8_t pnm_scaled(uint32_t v, uint32_t m)
{
    const uint32_t whole = v * 255 / m, twice = v * 255 % m * 2;

    return (uint8_t)(whole + (twice > m || (twice == m && whole % 2)));
}

static heed_status pnm_over(const pnm *p, uint32_t sample, uint64_t at)
{
    return heed__image_refuse(p->image,
                              "at byte %" PRIu64 ": sample %" PRIu32 " is over the largest, %" PRIu32, at,
                              sample, p->most);
}

/* ---- text ---- */

static heed_status pnm_text_row(pnm *p, uint8_t *row, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const uint32_t v = pnm_number(&p->in);

        TRY(heed__cursor_status(&p->in, p->image->name, p->image->err));
        if (v > p->most)
            return pnm_over(p, v, p->in.at);
        row[i] = pnm_scaled(v, p->most);
    }
    return HEED_OK;
}

static heed_status pnm_text(pnm *p, uint8_t *row, size_t n)
{
    for (uint32_t y = 0; y < p->height; y++) {
        TRY(pnm_text_row(p, row, n));
        heed__image_row(p->image, y, row);
    }
    pnm_skip(&p->in);
    return HEED_OK;
}

/* ---- bytes ---- */

static heed_status pnm_binary_row(const pnm *p, uint8_t *row, const uint8_t *from, size_t n)
{
    const size_t wide = p->most > 255;

    for (size_t i = 0; i < n; i++) {
        const uint32_t v = wide ? (uint32_t)from[2 * i] << 8 | from[2 * i + 1] : from[i];

        if (v > p->most)
            return pnm_over(p, v, (uint64_t)(from - p->in.data) + (i << wide));
        row[i] = pnm_scaled(v, p->most);
    }
    return HEED_OK;
}

static heed_status pnm_binary(pnm *p, uint8_t *row, size_t n)
{
    for (uint32_t y = 0; y < p->height; y++) {
        const uint8_t *from = heed__bytes(&p->in, p->most > 255 ? (uint64_t)n * 2 : n);

        TRY(heed__cursor_status(&p->in, p->image->name, p->image->err));
        if (p->most == 255) {
            heed__image_row(p->image, y, from);
            continue;
        }
        TRY(pnm_binary_row(p, row, from, n));
        heed__image_row(p->image, y, row);
    }
    return HEED_OK;
}

heed_status heed__pnm_read(image_job *j)
{
    pnm p = { .image = j, .in = heed__cursor(j->bytes, j->size) };
    const bool text = j->bytes[1] == '2' || j->bytes[1] == '3';
    uint64_t samples, bytes;
    uint8_t *row = NULL;
    heed_status st;

    STEP(pnm_head(&p));
    if (!text && !pnm_blank(heed__peek(&p.in)))
        heed__cursor_fail(&p.in, HEED_ERR_FORMAT, "one blank stands behind the largest sample");
    if (!text)
        heed__u8(&p.in);
    STEP(heed__cursor_status(&p.in, j->name, j->err));
    samples = (uint64_t)p.width * p.height * (uint64_t)p.channels;
    bytes = text ? 2 * samples : p.most > 255 ? 2 * samples : samples; /* text: a blank and a digit each */
    if (bytes > heed__cursor_left(&p.in) || (!text && bytes < heed__cursor_left(&p.in))) {
        st = heed__image_refuse(
            j, "%" PRIu32 " x %" PRIu32 " pixels need %s%" PRIu64 " bytes, but %zu follow the header",
            p.width, p.height, text ? "at least " : "", bytes, heed__cursor_left(&p.in));
        goto done;
    }
    row = heed__alloc(j->ctx->heap, p.width, (size_t)p.channels);
    if (!row) {
        st = heed__fail_memory(j->err, (uint64_t)p.width * (uint64_t)p.channels);
        goto done;
    }
    STEP(heed__image_begin(j, p.width, p.height, p.channels));
    STEP(text ? pnm_text(&p, row, (size_t)p.width * (size_t)p.channels)
              : pnm_binary(&p, row, (size_t)p.width * (size_t)p.channels));
    if (heed__cursor_left(&p.in) > 0)
        st = heed__image_refuse(j, "at byte %zu: something follows the picture", p.in.at);
done:
    heed__release(j->ctx->heap, row);
    return st;
}
