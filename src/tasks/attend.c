/* heed_attend: tensors under their reserved names and a descriptor as text, built, run and written. */

#include "tasks/attend.h"

#include "base/error.h"
#include "base/fields.h"
#include "base/files.h"
#include "base/sizes.h"
#include "ops/ops.h"
#include <heed/formats.h>
#include <heed/ops.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ATOL 1e-5
#define RTOL 1e-4

/* ---- names ---- */

static const char rng_name[] = "rng";
static const char *const upstream_names[] = { "dout", "dweights", "dlse" };
static const char *const result_names[] = { "out",
                                            "lse",
                                            "lse2",
                                            "weights",
                                            "probe_rows",
                                            "probe_topk_values",
                                            "probe_topk_indices",
                                            "probe_pooled",
                                            "probe_received",
                                            "probe_entropy",
                                            "probe_distance",
                                            "probe_mean" };
enum { RESULT_NAMES = sizeof result_names / sizeof *result_names };

const char *heed__attend_name(int i)
{
    static const char *const first[] = { "q", "k", "v" };
    const char *name = i < ATTEND_TENSORS ? first[i]
                       : i < ATTEND_DOUT  ? heed__attention_tensors[i - ATTEND_TENSORS].name
                                          : upstream_names[i - ATTEND_DOUT];

    return strcmp(name, rng_name) == 0 ? NULL : name;
}

bool heed__attend_differentiable(int i)
{
    return i < ATTEND_TENSORS ||
           (i < ATTEND_DOUT && heed__attention_tensors[i - ATTEND_TENSORS].differentiable);
}

static unsigned attend_dtypes(int i)
{
    return i >= ATTEND_TENSORS && i < ATTEND_DOUT ? heed__attention_tensors[i - ATTEND_TENSORS].dtypes
                                                  : FLOATS;
}

static int attend_input(const char *name)
{
    for (int i = 0; i < ATTEND_INPUTS; i++)
        if (heed__attend_name(i) && strcmp(heed__attend_name(i), name) == 0)
            return i;
    return -1;
}

static bool attend_is_result(const char *name)
{
    for (int i = 0; i < RESULT_NAMES; i++)
        if (strcmp(result_names[i], name) == 0)
            return true;
    return strncmp(name, "d_", 2) == 0 && attend_input(name + 2) >= 0 &&
           heed__attend_differentiable(attend_input(name + 2));
}

/* ---- inputs ---- */

heed_status heed_attend_new(heed_attend **out, heed_context *ctx, heed_error *err)
{
    heed_attend *a = heed__alloc(ctx->heap, 1, sizeof *a);

    if (!a)
        return heed__fail_memory(err, sizeof *a);
    a->ctx = ctx;
    a->expect = a->reason = a->note = "";
    a->atol = ATOL;
    a->rtol = RTOL;
    heed__arena_init(&a->arena, ctx->heap);
    heed__arena_init(&a->build, ctx->heap);
    *out = a;
    return HEED_OK;
}

static void attend_list_free(heed_attend *a, attend_list *l)
{
    heed__release(a->ctx->heap, l->at);
    *l = (attend_list){ NULL, 0 };
}

/* Forgets the last build. */
static void attend_clear(heed_attend *a)
{
    heed__attend_stages_free(a);
    for (int i = 0; i < a->results.n; i++)
        heed__release(a->ctx->heap, a->results.at[i].tensor.data);
    attend_list_free(a, &a->results);
    heed_session_free(a->session);
    heed_weights_free(a->weights);
    heed_plan_free(a->plan);
    heed_graph_free(a->graph);
    heed_attention_text_free(a->ctx, a->text);
    heed__release(a->ctx->heap, a->json);
    heed__arena_release(&a->build);
    a->n_parts = 0;
    a->session = NULL;
    a->weights = NULL;
    a->plan = NULL;
    a->graph = NULL;
    a->text = NULL;
    a->json = NULL;
    a->ran = false;
}

void heed_attend_free(heed_attend *a)
{
    heed_context *ctx;

    if (!a)
        return;
    ctx = a->ctx;
    attend_clear(a);
    attend_list_free(a, &a->expected);
    heed__arena_release(&a->arena);
    heed__release(ctx->heap, a);
}

static size_t attend_bytes(const heed_type *t)
{
    return (size_t)heed_type_count(t) * heed_dtype_size(t->dtype);
}

void *heed__attend_memory(heed_attend *a, const heed_type *type)
{
    return heed__arena_alloc(&a->arena, (size_t)i64_max(1, heed_type_count(type)),
                             heed_dtype_size(type->dtype));
}

heed_status heed_attend_add(heed_attend *a, const char *name, heed_tensor tensor, heed_error *err)
{
    const int i = attend_input(name);
    void *to;

    if (i < 0) {
        if (!a->unknown)
            a->unknown = heed__arena_string(&a->arena, name);
        return a->unknown ? HEED_OK : heed__fail_memory(err, strlen(name));
    }
    if (heed_type_count(&tensor.type) < 0 || (int)tensor.type.dtype < 0 || tensor.type.dtype >= HEED_DTYPES)
        return heed__fail(err, HEED_ERR_SHAPE, "the tensor %s has no type that heed knows", name);
    if (a->given[i].data && heed_type_equal(&a->given[i].type, &tensor.type)) {
        to = a->given[i].data; /* another value: what is built stays */
        heed__attend_stages_free(a);
        a->ran = false;
    } else {
        attend_clear(a);
        to = heed__attend_memory(a, &tensor.type);
    }
    if (!to)
        return heed__fail_memory(err, attend_bytes(&tensor.type));
    if (attend_bytes(&tensor.type) > 0)
        memcpy(to, tensor.data, attend_bytes(&tensor.type));
    a->given[i] = (heed_tensor){ tensor.type, to };
    return HEED_OK;
}

/* ---- a file ---- */

static heed_status attend_metadata(heed_attend *a, const heed_safetensors *f, heed_error *err)
{
    for (int64_t i = 0; i < heed_safetensors_metadata(f); i++) {
        const char *value, *key = heed_safetensors_key(f, i, &value);
        const struct {
            const char *key, **to;
        } texts[] = {
            { "spec", &a->spec }, { "expect", &a->expect }, { "reason", &a->reason }, { "note", &a->note }
        };
        double *const number = strcmp(key, "atol") == 0   ? &a->atol
                               : strcmp(key, "rtol") == 0 ? &a->rtol
                                                          : NULL;
        const field row = { .name = key, .kind = FIELD_F64_, .max = 1 };

        for (size_t k = 0; k < sizeof texts / sizeof *texts; k++)
            if (strcmp(key, texts[k].key) == 0 && !(*texts[k].to = heed__arena_string(&a->arena, value)))
                return heed__fail_memory(err, strlen(value));
        if (number)
            TRY(heed__field_set(&row, number, value, &a->arena, key, err));
    }
    if (a->expect[0] && strcmp(a->expect, "ok") != 0 && strcmp(a->expect, "refused") != 0)
        return heed__fail(err, HEED_ERR_FORMAT, "the metadata say expect \"%.40s\"; it is ok or refused",
                          a->expect);
    return HEED_OK;
}

static heed_status attend_read(heed_attend *a, heed_safetensors *f, int64_t i, heed_error *err)
{
    const heed_type type = heed_safetensors_type(f, i);
    const char *name = heed_safetensors_name(f, i);
    const int input = attend_input(name);
    heed_tensor t = { type, NULL };

    if (input < 0 && !attend_is_result(name)) {
        if (!a->unknown)
            a->unknown = heed__arena_string(&a->arena, name);
        return a->unknown ? HEED_OK : heed__fail_memory(err, strlen(name));
    }
    if (type.dtype == HEED_DTYPES)
        return heed__fail(err, HEED_ERR_DTYPE, "the tensor %s has dtype %s, which heed has not", name,
                          heed_safetensors_dtype(f, i));
    t.data = heed__attend_memory(a, &type);
    if (!t.data)
        return heed__fail_memory(err, attend_bytes(&type));
    TRY(heed_safetensors_read(f, i, t.data, err));
    if (input >= 0) {
        a->given[input] = t;
        return HEED_OK;
    }
    a->expected.at[a->expected.n].name = heed__arena_string(&a->arena, name);
    a->expected.at[a->expected.n].tensor = t;
    return a->expected.at[a->expected.n++].name ? HEED_OK : heed__fail_memory(err, strlen(name));
}

heed_status heed_attend_open(heed_attend **out, heed_context *ctx, const char *path, heed_error *err)
{
    heed_attend *a = NULL;
    heed_safetensors *f = NULL;
    heed_status st;

    STEP(heed_attend_new(&a, ctx, err));
    STEP(heed_safetensors_open(&f, ctx, path, err));
    a->expected.at = heed__alloc(ctx->heap, (size_t)heed_safetensors_count(f), sizeof *a->expected.at);
    if (!a->expected.at)
        STEP(heed__fail_memory(err, (uint64_t)heed_safetensors_count(f) * sizeof *a->expected.at));
    STEP(attend_metadata(a, f, err));
    for (int64_t i = 0; i < heed_safetensors_count(f); i++)
        STEP(attend_read(a, f, i, err));
    *out = a;
    a = NULL;
done:
    heed_safetensors_close(f);
    heed_attend_free(a);
    return st;
}

bool heed_attend_refusal_expected(const heed_attend *a, const char **reason)
{
    if (reason)
        *reason = a->reason;
    return strcmp(a->expect, "refused") == 0;
}

const char *heed_attend_note(const heed_attend *a)
{
    return a->note;
}

/* ---- what may be given ---- */

static heed_status attend_refuse_unknown(const heed_attend *a, heed_error *err)
{
    const char *names[ATTEND_INPUTS + RESULT_NAMES + 1], *near;
    char shown[200];
    int n = 0;

    for (int i = 0; i < ATTEND_INPUTS; i++)
        if (heed__attend_name(i))
            names[n++] = heed__attend_name(i);
    for (int i = 0; i < RESULT_NAMES; i++)
        names[n++] = result_names[i];
    names[n] = NULL;
    near = heed__nearest(a->unknown, names);
    if (strcmp(a->unknown, rng_name) == 0)
        return heed__fail(err, HEED_ERR_SPEC,
                          "the tensor rng is no input here: write combine.dropout.seed and step");
    return heed__fail(err, HEED_ERR_SPEC, "there is no tensor of the name %s%s%s%s",
                      heed__shown(shown, a->unknown, strlen(a->unknown)), near ? "; did you mean " : "",
                      near ? near : "", near ? "?" : "");
}

static heed_status attend_check_given(const heed_attend *a, heed_error *err)
{
    if (a->unknown)
        return attend_refuse_unknown(a, err);
    for (int i = 0; i < ATTEND_TENSORS; i++)
        if (!a->given[i].data)
            return heed__fail(err, HEED_ERR_SPEC, "the tensor %s is missing: attention needs q, k and v",
                              heed__attend_name(i));
    for (int i = 0; i < ATTEND_INPUTS; i++) {
        const heed_dtype dtype = a->given[i].type.dtype;
        const unsigned wanted = attend_dtypes(i);

        if (a->given[i].data && !(DTYPE_BIT(dtype) & wanted))
            return heed__fail(err, HEED_ERR_DTYPE, "the tensor %s is %s; it must be %s", heed__attend_name(i),
                              heed_dtype_name(dtype),
                              wanted == BOOLS      ? "bool"
                              : wanted == I64_ONLY ? "i64"
                                                   : "floating");
    }
    return HEED_OK;
}

/* ---- building ---- */

typedef struct making_of {
    heed_attend *a;
    heed_builder *b;
    heed_value in[ATTEND_INPUTS];
    heed_attended y;
    int inputs;
} making_of;

static void make_input(making_of *m, int i)
{
    const heed_tensor *t = &m->a->given[i];

    if (!t->data)
        return;
    m->a->bound[m->inputs++] = i;
    m->in[i] = heed_input(m->b, heed__attend_name(i), t->type);
}

/* A result is written where it was asked for, and nothing else is computed. */
static void make_result(making_of *m, const char *name, heed_value x)
{
    heed_attend *a = m->a;
    bool expected = !a->opts.expected || a->expected.n == 0;

    for (int i = 0; i < a->expected.n; i++)
        expected = expected || strcmp(a->expected.at[i].name, name) == 0 ||
                   (strcmp(name, "weights") == 0 &&
                    strcmp(a->expected.at[i].name, "probe_topk_indices") == 0); /* ties are told by them */
    if (!x.id || !expected)
        return;
    a->results.at[a->results.n].name = heed__arena_string(&a->build, name);
    a->results.at[a->results.n++].tensor.type = heed_value_type(m->b, x);
    heed_output(m->b, name, x);
}

static bool make_expects(const heed_attend *a, const char *prefix)
{
    for (int i = 0; a->opts.expected && i < a->expected.n; i++)
        if (strncmp(a->expected.at[i].name, prefix, strlen(prefix)) == 0)
            return true;
    return false;
}

static heed_status refuse_shape(const char *name, const heed_type *given, const char *like, const heed_type *is,
                                heed_error *err)
{
    int axis = 0;

    if (given->rank != is->rank)
        return heed__fail(err, HEED_ERR_SHAPE, "%s has rank %d; it must be %d, as of %s", name, given->rank,
                          is->rank, like);
    while (axis < is->rank - 1 && given->dims[axis] == is->dims[axis])
        axis++;
    return heed__fail(err, HEED_ERR_SHAPE, "%s has size %lld on axis %d; it must be %lld, as of %s", name,
                      (long long)given->dims[axis], axis, (long long)is->dims[axis], like);
}

/* Gradients of <out, dout> + <weights, dweights> + <lse, dlse> by everything that has one. */
static heed_status make_gradients(making_of *m, heed_error *err)
{
    const heed_attend *a = m->a;
    const heed_value results[] = { m->y.out, m->y.weights, m->y.lse };
    heed_value y[3], dy[3], wrt[ATTEND_INPUTS], d[ATTEND_INPUTS] = { { 0 } };
    int n_y = 0, n = 0, from[ATTEND_INPUTS];

    for (int i = 0; i < 3; i++) {
        const int slot = ATTEND_DOUT + i;
        const heed_type is = heed_value_type(m->b, results[i]);
        heed_type given = a->given[slot].type;

        if (!a->given[slot].data)
            continue;
        if (!results[i].id)
            return heed__fail(err, HEED_ERR_SPEC,
                              "dlse is given, but lse is not defined for this normaliser: leave it out");
        given.dtype = is.dtype;
        if (!heed_type_equal(&given, &is))
            return refuse_shape(heed__attend_name(slot), &given, heed__attend_name(slot) + 1, &is, err);
        y[n_y] = results[i];
        dy[n_y++] = heed__as(m->b, m->in[slot], is.dtype);
    }
    if (n_y == 0)
        return heed__fail(err, HEED_ERR_SPEC, "gradients need an upstream one: give dout, dweights or dlse");
    for (int i = 0; i < ATTEND_DOUT; i++)
        if (m->in[i].id && heed__attend_differentiable(i)) {
            from[n] = i;
            wrt[n++] = m->in[i];
        }
    heed_grad_of(m->b, y, dy, n_y, wrt, n, d);
    for (int i = 0; i < n; i++) {
        char name[64];

        heed__format(name, sizeof name, "d_%s", heed__attend_name(from[i]));
        make_result(m, name, d[i]);
    }
    return HEED_OK;
}

static heed_status make_graph(making_of *m, heed_error *err)
{
    heed_attend *a = m->a;
    heed_attention_spec s = a->text->spec;
    const bool grad = a->opts.grad || make_expects(a, "d_");
    const heed_attended *y = &m->y;

    for (int i = 0; i < ATTEND_INPUTS; i++) {
        if (i >= ATTEND_DOUT && !grad)
            continue;
        if (heed__attend_name(i))
            make_input(m, i);
        if (i >= ATTEND_TENSORS && i < ATTEND_DOUT && m->in[i].id)
            *(heed_value *)(void *)((char *)&s + heed__attention_tensors[i - ATTEND_TENSORS].offset) =
                m->in[i];
    }
    if (s.combine.dropout.p > 0 && !s.in.dropout_keep.id) {
        a->rng[0] = a->text->seed;
        a->rng[1] = a->text->step;
        a->bound[m->inputs++] = -1;
        s.in.rng = heed_input(m->b, rng_name, HEED_TYPE(HEED_I64, 2));
    }
    m->y = heed_attention(m->b, m->in[ATTEND_Q], m->in[ATTEND_K], m->in[ATTEND_V], &s);
    TRY(heed_builder_status(m->b, err));
    make_result(m, "out", y->out);
    make_result(m, "lse", y->lse);
    make_result(m, "lse2", y->lse2);
    if (a->opts.weights || a->opts.expected)
        make_result(m, "weights", y->weights);
    make_result(m, "probe_rows", y->rows);
    make_result(m, "probe_topk_values", y->topk_values);
    make_result(m, "probe_topk_indices", y->topk_indices);
    make_result(m, "probe_pooled", y->pooled);
    make_result(m, "probe_received", y->received);
    make_result(m, "probe_entropy", y->entropy);
    make_result(m, "probe_distance", y->distance);
    make_result(m, "probe_mean", y->mean);
    return grad ? make_gradients(m, err) : HEED_OK;
}

static heed_status attend_graph(heed_attend *a, heed_error *err)
{
    making_of m = { .a = a };
    heed_status st;

    STEP(heed_builder_new(&m.b, a->ctx, err));
    STEP(make_graph(&m, err));
    STEP(heed_builder_finish(&a->graph, m.b, err));
    for (int i = 0; i < a->results.n; i++)
        if (!a->results.at[i].name)
            STEP(heed__fail_memory(err, 0));
done:
    heed_builder_free(m.b);
    return st;
}

/* Memory of the results, and of the session. */
static heed_status attend_bind(heed_attend *a, heed_error *err)
{
    for (int i = 0; i < a->results.n; i++) {
        heed_tensor *t = &a->results.at[i].tensor;

        t->data =
            heed__alloc(a->ctx->heap, (size_t)heed_type_count(&t->type), heed_dtype_size(t->type.dtype));
        if (!t->data)
            return heed__fail_memory(err, attend_bytes(&t->type));
    }
    TRY(heed_weights_new(&a->weights, a->ctx, err));
    TRY(heed_session_new(&a->session, a->ctx, a->weights, NULL, err));
    return heed_session_add(a->session, a->plan, &a->id, err);
}

/* The descriptor's text: as given, of the file that is named, or the metadata's. */
static heed_status attend_json(heed_attend *a, heed_error *err)
{
    const char *given = a->opts.spec ? a->opts.spec : a->spec ? a->spec : "{}";
    file_bytes file = { NULL, 0 };

    const char first = given[strspn(given, " \t\r\n")];

    if (first == '{' || first == '[' || !a->opts.spec) { /* a list is refused as JSON, not looked for as a file */
        a->json = heed__copy_string(a->ctx->heap, given);
        return a->json ? HEED_OK : heed__fail_memory(err, strlen(given));
    }
    TRY(heed__file_read(&file, a->ctx, given, a->ctx->limits.json_bytes, err));
    a->json = heed__resize(a->ctx->heap, file.data, file.size + 1, 1);
    if (a->json)
        return HEED_OK;
    heed__release(a->ctx->heap, file.data);
    return heed__fail_memory(err, file.size);
}

heed_status heed_attend_build(heed_attend *a, const heed_attend_opts *opts, heed_error *err)
{
    const heed_attend_opts zeroed = { 0 };
    heed_plan_opts plan = { .results = HEED_RESULTS_DIRECT };
    heed_status st;

    attend_clear(a);
    a->opts = opts ? *opts : zeroed;
    STEP(attend_json(a, err));
    a->results.at = heed__alloc(a->ctx->heap, ATTEND_RESULTS_MOST, sizeof *a->results.at);
    if (!a->results.at)
        STEP(heed__fail_memory(err, ATTEND_RESULTS_MOST * sizeof *a->results.at));
    STEP(attend_check_given(a, err));
    STEP(heed_attention_text_read(&a->text, a->ctx, a->json, err));
    if (a->opts.probe)
        STEP(heed__attend_probe(a->ctx, a->text, a->opts.probe, err));
    STEP(attend_graph(a, err));
    STEP(heed__attend_parts(a, err));
    if (a->opts.kernel == HEED_ATTEND_STREAMING)
        STEP(heed__attend_streams(a, err));
    if (a->opts.kernel == HEED_ATTEND_REFERENCE)
        plan.kernels = HEED_KERNELS_REFERENCE;
    STEP(heed_plan_new(&a->plan, a->ctx, a->graph, &plan, err));
done:
    if (st != HEED_OK)
        attend_clear(a);
    return st;
}

heed_status heed_attend_run(heed_attend *a, heed_error *err)
{
    heed_tensor in[ATTEND_INPUTS + 1], out[ATTEND_RESULTS_MOST];
    int n_in;

    if (!a->plan)
        return heed__fail(err, HEED_ERR_USAGE,
                          "nothing is built: call heed_attend_build before heed_attend_run");
    if (!a->session)
        TRY(attend_bind(a, err));
    n_in = heed_plan_inputs(a->plan);
    for (int i = 0; i < n_in; i++)
        in[i] = a->bound[i] >= 0 ? a->given[a->bound[i]] : (heed_tensor){ HEED_TYPE(HEED_I64, 2), a->rng };
    for (int i = 0; i < a->results.n; i++)
        out[i] = a->results.at[i].tensor;
    TRY(heed_session_run(a->session, a->id, in, n_in, out, a->results.n, err));
    a->ran = true;
    return HEED_OK;
}

/* ---- results ---- */

int heed_attend_results(const heed_attend *a)
{
    return a->results.n;
}

const char *heed_attend_result(const heed_attend *a, int i, heed_tensor *tensor)
{
    if (i < 0 || i >= a->results.n)
        return NULL;
    if (tensor)
        *tensor = a->results.at[i].tensor;
    return a->results.at[i].name;
}

const attend_named *heed__attend_result(const heed_attend *a, const char *name)
{
    for (int i = 0; i < a->results.n; i++)
        if (strcmp(a->results.at[i].name, name) == 0)
            return &a->results.at[i];
    return NULL;
}

heed_status heed_attend_write(const heed_attend *a, const char *path, heed_error *err)
{
    heed_named_tensor named[ATTEND_RESULTS_MOST];
    const heed_pair pair = { "spec", a->json };

    if (!a->ran)
        return heed__fail(err, HEED_ERR_USAGE,
                          "nothing is computed: call heed_attend_run before heed_attend_write");
    for (int i = 0; i < a->results.n; i++)
        named[i] = (heed_named_tensor){ a->results.at[i].name, a->results.at[i].tensor };
    return heed_safetensors_write(a->ctx, path, named, a->results.n, &pair, 1, err);
}
