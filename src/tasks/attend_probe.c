/* --probe "entropy,topk:8,rows:0+5,pooled:16x16": written as the JSON that it stands for, and read as such. */

#include "tasks/attend.h"

#include "base/error.h"
#include "base/text.h"

#include <string.h>

static const char letters[] = "abcdefghijklmnopqrstuvwxyz_", digits[] = "0123456789";

/* 0+5 is a list of two, 16x16 a pair; rows and heads are lists also of one. */
static heed_status probe_value(text *json, const char *name, size_t name_size, const char *value, size_t size,
                               heed_error *err)
{
    const bool many = memchr(value, '+', size) || memchr(value, 'x', size) ||
                      (name_size == 4 && memcmp(name, "rows", 4) == 0) ||
                      (name_size == 5 && memcmp(name, "heads", 5) == 0);
    const char separator = memchr(value, 'x', size) ? 'x' : '+';

    heed__text_put(json, many ? "[" : "", many);
    for (size_t i = 0; i < size;) {
        const size_t n = strspn(value + i, digits);

        if (n == 0 || i + n > size || (value[i] == '0' && n > 1) ||
            (i + n < size && (value[i + n] != separator || i + n + 1 == size)))
            return heed__fail(
                err, HEED_ERR_USAGE,
                "--probe: \"%.*s\" is no value of %.*s: a number (topk:8), some with + (rows:0+5) "
                "or two with x (pooled:16x16)",
                size < 40 ? (int)size : 40, value, (int)name_size, name);
        heed__text_put(json, value + i, n);
        i += n;
        if (i < size) {
            heed__text_put(json, ",", 1);
            i++;
        }
    }
    heed__text_put(json, many ? "]" : "", many);
    return HEED_OK;
}

/* Names that are asked for otherwise, twice, or without what they need. */
static heed_status probe_name(const char *list, const char *at, size_t name, bool valued, heed_error *err)
{
    static const struct {
        const char *name, *say;
    } bare[] = { { "topk", "how many: topk:8" },
                 { "pooled", "the size of a block: pooled:16x16" },
                 { "rows", "which: rows:0+5" },
                 { "heads", "which: heads:1" } };

    for (size_t i = 0; i < sizeof bare / sizeof *bare && !valued; i++)
        if (strlen(bare[i].name) == name && memcmp(bare[i].name, at, name) == 0)
            return heed__fail(err, HEED_ERR_USAGE, "--probe: %s needs to know %s", bare[i].name, bare[i].say);
    if (name == 7 && memcmp(at, "weights", name) == 0)
        return heed__fail(err, HEED_ERR_USAGE, "--probe: all weights are no probe; ask with --weights");
    if (name == 4 && memcmp(at, "none", name) == 0)
        return heed__fail(err, HEED_ERR_USAGE, "--probe: none stands alone");
    for (const char *before = list; before < at; before += strcspn(before, ",") + 1)
        if (strspn(before, letters) == name && memcmp(before, at, name) == 0)
            return heed__fail(err, HEED_ERR_USAGE, "--probe: %.*s stands twice", (int)name, at);
    return HEED_OK;
}

static heed_status probe_json(text *json, const char *list, heed_error *err)
{
    heed__text_add(json, "{\"probe\":{");
    for (const char *at = list; strcmp(list, "none") != 0;) {
        const size_t size = strcspn(at, ","), name = strspn(at, letters);

        if (name == 0 || name > 20 || (name < size && (at[name] != ':' || name + 1 == size)))
            return heed__fail(err, HEED_ERR_USAGE,
                              "--probe: \"%.*s\" is no probe; write entropy,received,topk:8,rows:0+5,heads:1,"
                              "pooled:16x16,distance,lse,mean or none",
                              size < 40 ? (int)size : 40, at);
        TRY(probe_name(list, at, name, name < size, err));
        heed__text_add(json, "%s\"%.*s\":", at == list ? "" : ",", (int)name, at);
        if (name == size)
            heed__text_add(json, "true");
        else
            TRY(probe_value(json, at, name, at + name + 1, size - name - 1, err));
        if (!at[size])
            break;
        at += size + 1;
    }
    heed__text_add(json, "}}");
    return json->failed == HEED_OK ? HEED_OK : heed__fail_memory(err, json->size);
}

heed_status heed__attend_probe(heed_context *ctx, heed_attention_text *t, const char *list, heed_error *err)
{
    heed_attention_text *read = NULL;
    text json;
    heed_status st;

    heed__text_init(&json, ctx->heap, 0);
    STEP(probe_json(&json, list, err));
    STEP(heed_attention_text_read(&read, ctx, json.data, err));
    const heed_attention_spec before = t->spec;

    t->spec.probe = read->spec.probe;
    read->spec.probe = before.probe; /* freed with it */
done:
    heed__text_release(&json);
    heed_attention_text_free(ctx, read);
    return st;
}
