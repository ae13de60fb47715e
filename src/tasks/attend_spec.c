/* The attention descriptor as JSON: one table of fields, read strictly. What may stand together is attention/spec.c's to say. */

#include "tasks/attend.h"

#include "base/error.h"
#include "base/fields.h"
#include "base/sizes.h"
#include "formats/json_read.h"

#include <math.h>
#include <string.h>

typedef enum spec_sort {
    SPEC_END_ = 0,
    SPEC_GROUP,   /* an object */
    SPEC_ON,      /* an object whose presence switches a bool on */
    SPEC_T5,      /* an object whose presence sets heed_t5_kind to BIDIRECTIONAL */
    SPEC_SIDES,   /* bool: heed_t5_kind */
    SPEC_KIND,    /* one of `words`, an int from 0 */
    SPEC_SWITCH,  /* bool */
    SPEC_F32,     /* float */
    SPEC_F64,     /* double */
    SPEC_MAYBE_F, /* heed_maybe_f32 */
    SPEC_I64,     /* int64_t, `least` or more */
    SPEC_MAYBE_I, /* heed_maybe_i64 */
    SPEC_PAIR,    /* two int64_t */
    SPEC_WINDOW,  /* the same behind a bool */
    SPEC_LIST     /* heed_attention_list */
} spec_sort;

typedef struct spec_field {
    const char *name;
    spec_sort sort;
    size_t at; /* in heed_attention_text */
    int64_t least, most;
    const char *words, *doc;
} spec_field;

#define AT(m) offsetof(heed_attention_text, m)
#define WITHIN(a, b) .least = (a), .most = (b)
#define ANY_I64 WITHIN(INT64_MIN, INT64_MAX)
#define U32_MOST ((int64_t)UINT32_MAX)

static const spec_field spec_fields[] = {
    { "score", SPEC_GROUP, 0, 0, 0, NULL, "how a query and a key are compared" },
    { "score.kind", SPEC_KIND, AT(spec.score.kind), 0, 0,
      "scaled_dot|dot|general|additive|location|cosine|neg_sq_distance|neg_distance", "the score" },
    { "score.scale", SPEC_MAYBE_F, AT(spec.score.scale), 0, 0, NULL,
      "multiplies the score; default 1/sqrt(Dk) for scaled_dot, else 1" },
    { "softcap", SPEC_F32, AT(spec.softcap), 0, 0, NULL, "s becomes softcap tanh(s / softcap); 0: off" },
    { "offset", SPEC_MAYBE_I, AT(spec.offset), ANY_I64, NULL, "position of query row 0; default Tk - Tq" },
    { "position", SPEC_GROUP, 0, 0, 0, NULL, "what looks at positions" },
    { "position.rope", SPEC_ON, AT(spec.position.rope.on), 0, 0, NULL, "turns q and k by their positions" },
    { "position.rope.base", SPEC_MAYBE_F, AT(spec.position.rope.base), 0, 0, NULL, "default 10000, above 1" },
    { "position.rope.dims", SPEC_MAYBE_I, AT(spec.position.rope.dims), ANY_I64, NULL,
      "so many numbers of q and k turn; even, default all" },
    { "position.rope.interleaved", SPEC_SWITCH, AT(spec.position.rope.interleaved), 0, 0, NULL,
      "pairs (2m, 2m+1) in place of (m, m + dims/2)" },
    { "position.rope.factor", SPEC_MAYBE_F, AT(spec.position.rope.factor), 0, 0, NULL,
      "positions are divided by it; default 1" },
    { "position.alibi", SPEC_SWITCH, AT(spec.position.alibi), 0, 0, NULL, "s -= m_h |p - j|" },
    { "position.t5", SPEC_T5, AT(spec.position.t5.kind), 0, 0, NULL, "s += t5_table[bucket(j - p), h]" },
    { "position.t5.max_distance", SPEC_MAYBE_I, AT(spec.position.t5.max_distance), ANY_I64, NULL,
      "default 128" },
    { "position.t5.bidirectional", SPEC_SIDES, AT(spec.position.t5.kind), 0, 0, NULL,
      "default true; false: keys of the future share bucket 0" },
    { "position.xl", SPEC_ON, AT(spec.position.xl.on), 0, 0, NULL, "s += q.r + u.k + v.r of Transformer-XL" },
    { "position.xl.zero", SPEC_MAYBE_I, AT(spec.position.xl.zero), ANY_I64, NULL,
      "index of distance 0 in xl_r; default 0" },
    { "mask", SPEC_GROUP, 0, 0, 0, NULL, "what to keep, combined by AND" },
    { "mask.causal", SPEC_SWITCH, AT(spec.mask.causal), 0, 0, NULL, "keeps j <= p" },
    { "mask.window", SPEC_WINDOW, AT(spec.mask.window), WITHIN(-1, INT64_MAX), NULL,
      "[left, right] keeps -left <= j - p <= right; -1: no limit" },
    { "mask.stride", SPEC_I64, AT(spec.mask.stride), WITHIN(1, INT64_MAX), NULL,
      "n keeps |p - j| < n, and p - j divisible by n" },
    { "mask.block", SPEC_PAIR, AT(spec.mask.block), WITHIN(1, INT64_MAX), NULL,
      "[sq, sk] keeps block_keep[i/sq][j/sk]" },
    { "normaliser", SPEC_GROUP, 0, 0, 0, NULL, "how scores become weights" },
    { "normaliser.kind", SPEC_KIND, AT(spec.normaliser.kind), 0, 0,
      "softmax|sparsemax|entmax15|entmax|sigmoid|topk|hard|adaptive_span|linear", "the normaliser" },
    { "normaliser.temperature", SPEC_MAYBE_F, AT(spec.normaliser.temperature), 0, 0, NULL,
      "divides the scores; default 1" },
    { "normaliser.plus_one", SPEC_SWITCH, AT(spec.normaliser.plus_one), 0, 0, NULL,
      "softmax: 1 is added to the denominator" },
    { "normaliser.k", SPEC_I64, AT(spec.normaliser.k), WITHIN(1, INT64_MAX), NULL,
      "topk: so many keys a row" },
    { "normaliser.alpha", SPEC_MAYBE_F, AT(spec.normaliser.alpha), 0, 0, NULL,
      "entmax: 1.01 to 2, default 1.5" },
    { "normaliser.bias", SPEC_MAYBE_F, AT(spec.normaliser.bias), 0, 0, NULL, "sigmoid: default 0" },
    { "normaliser.ramp", SPEC_MAYBE_F, AT(spec.normaliser.ramp), 0, 0, NULL, "adaptive_span: default 32" },
    { "combine", SPEC_GROUP, 0, 0, 0, NULL, "what happens to weights" },
    { "combine.dropout", SPEC_ON, AT(spec.combine.dropout.node.set), 0, 0, NULL, "dropout of the weights" },
    { "combine.dropout.p", SPEC_F64, AT(spec.combine.dropout.p), 0, 0, NULL, "at least 0 and below 1" },
    { "combine.dropout.seed", SPEC_I64, AT(seed), WITHIN(0, INT64_MAX), NULL, "of its random numbers" },
    { "combine.dropout.step", SPEC_I64, AT(step), WITHIN(0, U32_MOST), NULL, "the training step" },
    { "combine.dropout.node", SPEC_I64, AT(spec.combine.dropout.node.value), WITHIN(0, U32_MOST), NULL,
      "the number of its stream" },
    { "probe", SPEC_GROUP, 0, 0, 0, NULL, "what else to tell of the weights" },
    { "probe.rows", SPEC_LIST, AT(spec.probe.rows), WITHIN(0, INT64_MAX), NULL, "weights of these rows" },
    { "probe.heads", SPEC_LIST, AT(spec.probe.heads), WITHIN(0, INT64_MAX), NULL, "and of these heads" },
    { "probe.topk", SPEC_I64, AT(spec.probe.topk), WITHIN(1, INT64_MAX), NULL,
      "the largest weights of a row, with their keys" },
    { "probe.pooled", SPEC_PAIR, AT(spec.probe.pooled), WITHIN(1, INT64_MAX), NULL,
      "[a, c]: means over blocks of a rows by c keys" },
    { "probe.received", SPEC_SWITCH, AT(spec.probe.received), 0, 0, NULL, "sum of a key's weights" },
    { "probe.entropy", SPEC_SWITCH, AT(spec.probe.entropy), 0, 0, NULL, "entropy of each row, nats" },
    { "probe.distance", SPEC_SWITCH, AT(spec.probe.distance), 0, 0, NULL, "mean distance of each row" },
    { "probe.lse", SPEC_SWITCH, AT(spec.probe.lse), 0, 0, NULL, "refuse where lse is not defined" },
    { "probe.mean", SPEC_SWITCH, AT(spec.probe.mean), 0, 0, NULL, "mean of the weights over heads" },
    { NULL, SPEC_END_, 0, 0, 0, NULL, NULL },
};
enum { SPEC_FIELDS = sizeof spec_fields / sizeof *spec_fields - 1 };

heed_attention_field heed_attention_field_at(int i)
{
    static const char *const values[] = {
        [SPEC_GROUP] = "object",
        [SPEC_ON] = "object",
        [SPEC_T5] = "object",
        [SPEC_SIDES] = "true or false",
        [SPEC_SWITCH] = "true or false",
        [SPEC_F32] = "number",
        [SPEC_F64] = "number",
        [SPEC_MAYBE_F] = "number",
        [SPEC_I64] = "whole number",
        [SPEC_MAYBE_I] = "whole number",
        [SPEC_PAIR] = "two whole numbers",
        [SPEC_WINDOW] = "two whole numbers",
        [SPEC_LIST] = "list of whole numbers",
    };
    heed_attention_field f = { NULL, NULL, NULL };

    if (i < 0 || i >= SPEC_FIELDS)
        return f;
    f.name = spec_fields[i].name;
    f.value = spec_fields[i].words ? spec_fields[i].words : values[spec_fields[i].sort];
    f.doc = spec_fields[i].doc;
    return f;
}

void heed_attention_text_free(heed_context *ctx, heed_attention_text *t)
{
    if (!t)
        return;
    heed__release(ctx->heap, (void *)(uintptr_t)t->spec.probe.rows.v);
    heed__release(ctx->heap, (void *)(uintptr_t)t->spec.probe.heads.v);
    heed__release(ctx->heap, t);
}

#if defined(HEED_HAVE_JSON) && HEED_HAVE_JSON

#include <jansson.h>

typedef struct reading {
    heed_context *ctx;
    heed_attention_text *to;
    heed_error *err;
} reading;

static const char *last_word(const char *name)
{
    const char *dot = strrchr(name, '.');

    return dot ? dot + 1 : name;
}

/* A field of another group is meant more often than one that is spelled alike. */
static const char *nearest_field(const char *name)
{
    const char *names[SPEC_FIELDS + 1] = { NULL }, *lasts[SPEC_FIELDS + 1] = { NULL }, *near;

    for (int i = 0; i < SPEC_FIELDS; i++) {
        names[i] = spec_fields[i].name;
        lasts[i] = last_word(spec_fields[i].name);
        if (strcmp(lasts[i], last_word(name)) == 0)
            return names[i];
    }
    near = heed__nearest(name, names);
    if (near)
        return near;
    near = heed__nearest(last_word(name), lasts);
    for (int i = 0; near && i < SPEC_FIELDS; i++)
        if (lasts[i] == near)
            return names[i];
    return NULL;
}

static heed_status refuse_field(const reading *r, const char *name)
{
    const char *near = nearest_field(name);
    char shown[200];

    for (int i = 0; i < ATTEND_INPUTS; i++)
        if (heed__attend_name(i) && strcmp(heed__attend_name(i), name) == 0)
            return heed__fail(r->err, HEED_ERR_SPEC,
                              "spec: %s is a tensor and no field: it stands in the file of tensors, beside q, k and v",
                              name);
    return heed__fail(r->err, HEED_ERR_SPEC, "spec: there is no field %s%s%s%s",
                      heed__shown(shown, name, strlen(name)), near ? "; did you mean " : "", near ? near : "",
                      near ? "?" : "");
}

static heed_status refuse_value(const reading *r, const spec_field *f, const char *what)
{
    return heed__fail(r->err, HEED_ERR_SPEC, "spec: %s must be %s", f->name, what);
}

static heed_status read_integer(const reading *r, const spec_field *f, const json_t *j, int64_t *to)
{
    if (!json_is_integer(j))
        return refuse_value(r, f,
                            f->sort == SPEC_LIST                             ? "a list of whole numbers"
                            : f->sort == SPEC_PAIR || f->sort == SPEC_WINDOW ? "a list of two whole numbers"
                                                                             : "a whole number");
    *to = (int64_t)json_integer_value(j);
    if (*to >= f->least && *to <= f->most)
        return HEED_OK;
    if (f->most == INT64_MAX)
        return heed__fail(r->err, HEED_ERR_SPEC, "spec: %s is %lld; it must be at least %lld", f->name,
                          (long long)*to, (long long)f->least);
    return heed__fail(r->err, HEED_ERR_SPEC, "spec: %s is %lld; it must be %lld to %lld", f->name,
                      (long long)*to, (long long)f->least, (long long)f->most);
}

static heed_status read_number(const reading *r, const spec_field *f, const json_t *j, double *to)
{
    if (!json_is_number(j))
        return refuse_value(r, f, "a number");
    *to = json_number_value(j);
    return isfinite(*to) ? HEED_OK : refuse_value(r, f, "finite");
}

/* A number that f32 holds: neither infinite in it nor, from something that was not 0, gone. */
static heed_status read_float(const reading *r, const spec_field *f, const json_t *j, float *to)
{
    double wide = 0;

    TRY(read_number(r, f, j, &wide));
    *to = (float)wide;
    return isfinite(*to) && (*to != 0) == (wide != 0)
               ? HEED_OK
               : heed__fail(r->err, HEED_ERR_SPEC, "spec: %s is %g, which f32 cannot hold", f->name, wide);
}

static heed_status read_pair(const reading *r, const spec_field *f, const json_t *j, int64_t to[2])
{
    if (!json_is_array(j) || json_array_size(j) != 2)
        return refuse_value(r, f, "a list of two whole numbers");
    TRY(read_integer(r, f, json_array_get(j, 0), &to[0]));
    return read_integer(r, f, json_array_get(j, 1), &to[1]);
}

static heed_status read_list(const reading *r, const spec_field *f, const json_t *j, heed_attention_list *to)
{
    int64_t *v;

    if (!json_is_array(j))
        return refuse_value(r, f, "a list of whole numbers");
    v = heed__alloc(r->ctx->heap, json_array_size(j), sizeof *v);
    if (!v)
        return heed__fail_memory(r->err, json_array_size(j) * sizeof *v);
    to->v = v;
    to->n = (int64_t)json_array_size(j);
    for (size_t i = 0; i < json_array_size(j); i++)
        TRY(read_integer(r, f, json_array_get(j, i), &v[i]));
    return HEED_OK;
}

static heed_status read_kind(const reading *r, const spec_field *f, const json_t *j, int *to)
{
    const char *given = json_string_value(j), *near;
    char words[160], *list[16], shown[200];
    int n = 0;

    if (!given)
        return refuse_value(r, f, "a word in quotes");
    heed__format(words, sizeof words, "%s", f->words);
    for (char *at = words; at; n++) {
        char *end = strchr(at, '|');

        list[n] = at;
        if (end)
            *end = 0;
        at = end ? end + 1 : NULL;
        if (strcmp(list[n], given) == 0) {
            *to = n;
            return HEED_OK;
        }
    }
    list[n] = NULL;
    near = heed__nearest(given, (const char *const *)list);
    return heed__fail(r->err, HEED_ERR_SPEC, "spec: %s has no value \"%s\"%s%s; it is %s", f->name,
                      heed__shown(shown, given, strlen(given)), near ? ": did you mean " : "",
                      near ? near : "", f->words);
}

static heed_status read_object(const reading *r, const char *prefix, json_t *object);

static heed_status read_group(const reading *r, const spec_field *f, json_t *j)
{
    return json_is_object(j) ? read_object(r, f->name, j) : refuse_value(r, f, "an object in braces");
}

static heed_status read_field(const reading *r, const spec_field *f, json_t *j)
{
    void *to = (char *)r->to + f->at;
    heed_maybe_i64 *integer = to;
    heed_maybe_f32 *number = to;

    switch (f->sort) {
    case SPEC_ON:
        *(bool *)to = true;
        return read_group(r, f, j);
    case SPEC_T5:
        if (*(heed_t5_kind *)to == HEED_T5_OFF)
            *(heed_t5_kind *)to = HEED_T5_BIDIRECTIONAL;
        return read_group(r, f, j);
    case SPEC_SIDES:
        *(heed_t5_kind *)to = json_is_false(j) ? HEED_T5_UNIDIRECTIONAL : HEED_T5_BIDIRECTIONAL;
        return json_is_boolean(j) ? HEED_OK : refuse_value(r, f, "true or false");
    case SPEC_SWITCH:
        *(bool *)to = json_is_true(j);
        return json_is_boolean(j) ? HEED_OK : refuse_value(r, f, "true or false");
    case SPEC_KIND:
        return read_kind(r, f, j, to);
    case SPEC_F32:
        return read_float(r, f, j, to);
    case SPEC_F64:
        return read_number(r, f, j, to);
    case SPEC_MAYBE_F:
        number->set = true;
        return read_float(r, f, j, &number->value);
    case SPEC_I64:
        return read_integer(r, f, j, to);
    case SPEC_MAYBE_I:
        integer->set = true;
        return read_integer(r, f, j, &integer->value);
    case SPEC_PAIR:
        return read_pair(r, f, j, to);
    case SPEC_WINDOW: {
        int64_t sides[2] = { 0, 0 };

        TRY(read_pair(r, f, j, sides));
        r->to->spec.mask.window.on = true;
        r->to->spec.mask.window.left = sides[0];
        r->to->spec.mask.window.right = sides[1];
        return HEED_OK;
    }
    case SPEC_LIST:
        return read_list(r, f, j, to);
    case SPEC_GROUP:
    default:
        return read_group(r, f, j);
    }
}

static heed_status read_object(const reading *r, const char *prefix, json_t *object)
{
    const char *key;
    json_t *value;

    json_object_foreach(object, key, value)
    {
        char name[160];
        const spec_field *f = spec_fields;

        heed__format(name, sizeof name, "%s%s%.100s", prefix, *prefix ? "." : "", key);
        while (f->sort != SPEC_END_ && strcmp(f->name, name) != 0)
            f++;
        if (f->sort == SPEC_END_)
            return refuse_field(r, name);
        TRY(read_field(r, f, value));
    }
    return HEED_OK;
}

heed_status heed_attention_text_read(heed_attention_text **out, heed_context *ctx, const char *json,
                                     heed_error *err)
{
    reading r = { .ctx = ctx, .err = err };
    json_t *j = NULL;
    heed_status st;

    TRY(heed__json_read(&j, ctx, json, strlen(json), "spec", err));
    r.to = heed__alloc(ctx->heap, 1, sizeof *r.to);
    st = !r.to               ? heed__fail_memory(err, sizeof *r.to)
         : json_is_object(j) ? read_object(&r, "", j)
                             : heed__fail(err, HEED_ERR_SPEC, "spec: a JSON object in braces is expected");
    json_decref(j);
    if (st == HEED_OK)
        *out = r.to;
    else
        heed_attention_text_free(ctx, r.to);
    return st;
}

#else

heed_status heed_attention_text_read(heed_attention_text **out, heed_context *ctx, const char *json,
                                     heed_error *err)
{
    (void)out;
    return heed__json_read(NULL, ctx, json, strlen(json), "spec", err);
}

#endif
