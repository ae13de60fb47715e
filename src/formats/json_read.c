/* See the header. jansson's parser recurses, so brackets are counted before it is called. */

#include "formats/json_read.h"
#include "base/context.h"
#include "base/error.h"

#if defined(HEED_HAVE_JSON) && HEED_HAVE_JSON

#include <jansson.h>

/* Deepest nesting of brackets outside strings; jansson's parser recurses, so this is asked before. */
static uint64_t depth_of(const char *p, size_t n)
{
    uint64_t depth = 0, most = 0;
    bool in_string = false;

    for (size_t i = 0; i < n; i++) {
        if (in_string && p[i] == '\\')
            i++;
        else if (p[i] == '"')
            in_string = !in_string;
        else if (!in_string && (p[i] == '{' || p[i] == '['))
            most = ++depth > most ? depth : most;
        else if (!in_string && (p[i] == '}' || p[i] == ']'))
            depth -= depth > 0;
    }
    return most;
}

/* What jansson says, in our words: its own text quotes the bytes. */
static const char *reason(const json_error_t *why)
{
    switch (json_error_code(why)) {
    case json_error_duplicate_key:
        return "a key stands twice in one object";
    case json_error_numeric_overflow:
        return "this number is too large";
    case json_error_invalid_utf8:
        return "this is not JSON: a byte here is not UTF-8";
    case json_error_null_character:
    case json_error_null_byte_in_key:
        return "a string may not hold the character U+0000";
    case json_error_premature_end_of_input:
        return "this is not JSON: the text ends too early";
    case json_error_end_of_input_expected:
        return "this is not JSON: something stands behind its end";
    default:
        return "this is not JSON";
    }
}

heed_status heed__json_read(json_t **out, heed_context *ctx, const void *bytes, size_t size, const char *path,
                            heed_error *err)
{
    json_error_t why;

    if (depth_of(bytes, size) > ctx->limits.nesting)
        return heed__fail_at(err, HEED_ERR_LIMIT, path, "%s: brackets are nested deeper than %llu", path,
                             (unsigned long long)ctx->limits.nesting);
    *out = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, &why);
    if (*out)
        return HEED_OK;
    if (json_error_code(&why) == json_error_out_of_memory)
        return heed__fail_memory(err, size);
    return heed__fail_at(err, HEED_ERR_FORMAT, path, "%s:%d:%d: %s", path, why.line, why.column,
                         reason(&why));
}

#else

heed_status heed__json_read(struct json_t **out, heed_context *ctx, const void *bytes, size_t size,
                            const char *path, heed_error *err)
{
    (void)out;
    (void)ctx;
    (void)bytes;
    (void)size;
    return heed__fail_at(err, HEED_ERR_MISSING, path,
                         "%s: built without jansson: apt install libjansson-dev, then build again", path);
}

#endif
