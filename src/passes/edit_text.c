/* Edits as text:  PATH : SELECTION : KIND
 *
 *   PATH       a tap or an attention; the first colon ends it
 *   SELECTION  head=3,row=0-4,key=7 in any order, each at most once; or left out with its colon
 *   KIND       zero | scale=C | set=C | add=C | take=FILE | factor=INPUT; the rest of the text, so that the name of a
 *              file may hold colons
 *
 * This is the only place that knows the form: it reads it, and writes it back. */

#include "base/context.h"
#include "base/error.h"
#include "base/fields.h"
#include "passes/edit.h"

#include <string.h>

#define KIND_WORDS "zero, scale=NUMBER, set=NUMBER, add=NUMBER or take=FILE"

typedef enum edit_argument { ARGUMENT_NONE, ARGUMENT_NUMBER, ARGUMENT_NAME } edit_argument;

static const struct edit_word {
    const char *name;
    edit_argument argument;
    bool hidden; /* not for people: its graph needs a program that knows the input */
} edit_words[HEED_EDIT_KINDS] = {
    [HEED_EDIT_ZERO] = { "zero", ARGUMENT_NONE, false },
    [HEED_EDIT_SCALE] = { "scale", ARGUMENT_NUMBER, false },
    [HEED_EDIT_SET] = { "set", ARGUMENT_NUMBER, false },
    [HEED_EDIT_ADD] = { "add", ARGUMENT_NUMBER, false },
    [HEED_EDIT_TAKE] = { "take", ARGUMENT_NAME, false },
    [HEED_EDIT_FACTOR] = { "factor", ARGUMENT_NAME, true },
};

static const char *const edit_axes[] = { "head", "row", "key" };

static heed_edit_range *edit_range(heed_edit *e, int axis)
{
    return axis == 0 ? &e->head : axis == 1 ? &e->row : &e->key;
}

/* ---- reading ---- */

static const field edit_integer[] = { { .name = "n", .kind = FIELD_I64_, .min = 0, .max = 1e15 }, FIELD_END };
static const field edit_number[] = { { .name = "number", .kind = FIELD_F64_ }, FIELD_END };

/* "3" or "0-4" */
static bool edit_read_range(heed_edit_range *out, arena *a, char *value)
{
    char *dash = strchr(value, '-');

    if (dash)
        *dash = 0;
    if (heed__field_set(edit_integer, &out->first, value, a, NULL, NULL) != HEED_OK ||
        heed__field_set(edit_integer, &out->last, dash ? dash + 1 : value, a, NULL, NULL) != HEED_OK)
        return false;
    out->on = true;
    return out->first <= out->last;
}

static heed_status edit_read_selection(heed_edit *out, arena *a, char *part, const char *words,
                                       heed_error *err)
{
    while (part) {
        char *comma = strchr(part, ','), *is = NULL;
        heed_edit_range *range = NULL;

        if (comma)
            *comma = 0;
        is = strchr(part, '=');
        if (is)
            *is = 0;
        for (int i = 0; i < 3; i++)
            if (strcmp(part, edit_axes[i]) == 0)
                range = edit_range(out, i);
        if (!range || !is)
            return heed__fail(
                err, HEED_ERR_USAGE,
                "--edit %.200s: \"%.60s\" chooses nothing: head=3, row=0-4 and key=7 do, with commas "
                "between",
                words, part);
        if (range->on)
            return heed__fail(err, HEED_ERR_USAGE, "--edit %.200s: %s= stands twice", words, part);
        if (!edit_read_range(range, a, is + 1))
            return heed__fail(
                err, HEED_ERR_USAGE,
                "--edit %.200s: %s= takes a number from 0 on, or two with a dash between, the smaller "
                "first",
                words, part);
        part = comma ? comma + 1 : NULL;
    }
    return HEED_OK;
}

static heed_status edit_read_kind(heed_edit *out, arena *a, char *part, const char *words, heed_error *err)
{
    char *is = strchr(part, '=');
    const char *names[HEED_EDIT_KINDS + 1] = { NULL }, *near;
    int kind = 0, n = 0;

    if (is)
        *is = 0;
    while (kind < HEED_EDIT_KINDS && (edit_words[kind].hidden || strcmp(part, edit_words[kind].name) != 0))
        kind++;
    if (kind == HEED_EDIT_KINDS) {
        for (int i = 0; i < HEED_EDIT_KINDS; i++)
            if (!edit_words[i].hidden)
                names[n++] = edit_words[i].name;
        near = heed__nearest(part, names);
        return heed__fail(err, HEED_ERR_USAGE, "--edit %.200s: \"%.60s\" is no edit%s%s%s it is " KIND_WORDS,
                          words, part, near ? ": did you mean " : ";", near ? near : "", near ? "?" : "");
    }
    out->kind = (heed_edit_kind)kind;
    if (!is != (edit_words[kind].argument == ARGUMENT_NONE) || (is && !is[1]))
        return heed__fail(err, HEED_ERR_USAGE, "--edit %.200s: %s takes %s", words, part,
                          edit_words[kind].argument == ARGUMENT_NONE ? "no value"
                          : edit_words[kind].argument == ARGUMENT_NUMBER
                              ? "a number: scale=0.5, say"
                              : "the name of an NPZ file: take=record.npz");
    if (edit_words[kind].argument == ARGUMENT_NAME)
        out->from = is + 1;
    else if (is && heed__field_set(edit_number, &out->number, is + 1, a, NULL, NULL) != HEED_OK)
        return heed__fail(err, HEED_ERR_USAGE, "--edit %.200s: \"%.60s\" is no number", words, is + 1);
    return HEED_OK;
}

/* Does the text begin with a kind? Else what stands before a colon is a selection. */
static bool edit_is_kind(const char *part)
{
    const size_t n = strcspn(part, "=:");

    for (int i = 0; i < HEED_EDIT_KINDS; i++)
        if (strlen(edit_words[i].name) == n && memcmp(part, edit_words[i].name, n) == 0)
            return true;
    return false;
}

heed_status heed__edit_parse(heed_edit *out, arena *a, const char *words, heed_error *err)
{
    char *path = heed__arena_string(a, words), *part, *next;
    heed_edit e = { .at = path };

    if (!path)
        return heed__fail_memory(err, strlen(words));
    part = strchr(path, ':');
    if (!part || part == path)
        return heed__fail(
            err, HEED_ERR_USAGE,
            "--edit %.200s: an edit is PATH:SELECTION:KIND or PATH:KIND, encoder.1.attn:head=3:zero, "
            "say; KIND is " KIND_WORDS,
            words);
    *part++ = 0;
    next = strchr(part, ':');
    if (next && !edit_is_kind(part)) {
        *next++ = 0;
        TRY(edit_read_selection(&e, a, part, words, err));
        part = next;
    }
    TRY(edit_read_kind(&e, a, part, words, err));
    *out = e;
    return HEED_OK;
}

/* ---- writing ---- */

void heed__edit_print(text *t, const heed_edit *e)
{
    const struct edit_word *word = &edit_words[(int)e->kind >= 0 && e->kind < HEED_EDIT_KINDS ? e->kind : 0];
    const heed_edit_range *ranges[] = { &e->head, &e->row, &e->key };
    const char *before = ":";

    heed__text_add(t, "%s", e->at ? e->at : "");
    for (int i = 0; i < 3; i++) {
        if (!ranges[i]->on)
            continue;
        heed__text_add(t, "%s%s=%lld", before, edit_axes[i], (long long)ranges[i]->first);
        if (ranges[i]->last != ranges[i]->first)
            heed__text_add(t, "-%lld", (long long)ranges[i]->last);
        before = ",";
    }
    heed__text_add(t, ":%s", word->name);
    if (word->argument == ARGUMENT_NUMBER) {
        heed__text_put(t, "=", 1);
        heed__text_number(t, e->number);
    } else if (word->argument == ARGUMENT_NAME) {
        heed__text_add(t, "=%s", e->from ? e->from : "tensor");
    }
}

heed_status heed_edit_print(char **out, heed_context *ctx, const heed_edit *e, heed_error *err)
{
    char *made;
    text t;

    heed__text_init(&t, ctx->heap, 0);
    heed__edit_print(&t, e);
    made = heed__text_take(&t);
    heed__text_release(&t);
    if (!made)
        return heed__fail_memory(err, 0);
    *out = made;
    return HEED_OK;
}

/* ---- copies ---- */

heed_status heed__edit_copy(heed_edit *out, arena *a, const heed_edit *e, heed_error *err)
{
    const int64_t count = heed_type_count(&e->tensor.type);
    heed_edit made = *e;
    size_t bytes = 0;

    made.at = heed__arena_string(a, e->at ? e->at : "");
    made.from = heed__arena_string(a, e->from);
    made.tensor.data = NULL;
    if (e->kind == HEED_EDIT_TAKE && e->tensor.data && count > 0) {
        bytes = (size_t)count * heed_dtype_size(e->tensor.type.dtype);
        made.tensor.data = heed__arena_copy(a, e->tensor.data, bytes);
    }
    if (!made.at || (e->from && !made.from) || (bytes && !made.tensor.data))
        return heed__fail_memory(err, bytes);
    *out = made;
    return HEED_OK;
}
