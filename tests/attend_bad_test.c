/* What attention is given and cannot use: it is refused with a sentence that says where, or it changes nothing but what it must. */
#include "support/cmocka.h"
#include "support/fail_each.h"
#include "support/scratch.h"
#include "support/trial.h"
#include <heed/heed.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a small attention: B 2, Hq 4, Hkv 2, Tq 3, Tk 5, D 4 ---- */

enum { B = 2, H = 4, G = 2, TQ = 3, TK = 5, D = 4 };

static float wave(int64_t i, double scale)
{
    return (float)(scale * sin(1.7 * (double)i + 0.3));
}

static heed_tensor waves(float *to, heed_type t, double scale)
{
    for (int64_t i = 0; i < heed_type_count(&t); i++)
        to[i] = wave(i, scale);
    return (heed_tensor){ t, to };
}

static void add_floats(heed_attend *a, const char *name, heed_type t, double scale)
{
    float *numbers = trial_memory((size_t)heed_type_count(&t) + 1, sizeof *numbers);

    assert_int_equal(heed_attend_add(a, name, waves(numbers, t, scale), NULL), HEED_OK);
    free(numbers);
}

static heed_attend *begin(heed_context *ctx, double scale)
{
    heed_attend *a = NULL;

    assert_int_equal(heed_attend_new(&a, ctx, NULL), HEED_OK);
    add_floats(a, "q", HEED_TYPE(HEED_F32, B, H, TQ, D), scale);
    add_floats(a, "k", HEED_TYPE(HEED_F32, B, G, TK, D), scale);
    add_floats(a, "v", HEED_TYPE(HEED_F32, B, G, TK, D), 1);
    add_floats(a, "dout", HEED_TYPE(HEED_F32, B, H, TQ, D), 1);
    return a;
}

static heed_status go(heed_attend *a, const char *spec, heed_error *err)
{
    const heed_status st = heed_attend_build(a, &(heed_attend_opts){ .spec = spec, .grad = true, .weights = true }, err);

    return st == HEED_OK ? heed_attend_run(a, err) : st;
}

static const float *result(const heed_attend *a, const char *name)
{
    heed_tensor t;

    for (int i = 0; i < heed_attend_results(a); i++)
        if (strcmp(heed_attend_result(a, i, &t), name) == 0)
            return t.data;
    fail_msg("no result %s", name);
    return NULL;
}

/* ---- integers ---- */

typedef struct integers {
    const char *spec;
    struct {
        const char *name;
        int n;
        int64_t v[16];
    } given[3];
    heed_status code;
    const char *words; /* of text or path */
} integers;

static const integers integer_cases[] = {
    { "{}", { { "lengths", 2, { 5, 6 } } }, HEED_ERR_LIMIT, "lengths" },
    { "{}", { { "lengths", 2, { -1, 5 } } }, HEED_ERR_LIMIT, "-1" },
    { "{}", { { "lengths", 2, { INT64_MIN, 5 } } }, HEED_ERR_LIMIT, "lengths" },
    { "{}", { { "lengths", 2, { 5, INT64_MAX } } }, HEED_ERR_LIMIT, "element 1 has the value 9.22" },
    { "{}", { { "q_lengths", 2, { 3, 4 } } }, HEED_ERR_LIMIT, "q_lengths" },
    { "{}", { { "lengths", 3, { 5, 5, 5 } } }, HEED_ERR_SHAPE, "lengths" },
    { "{\"mask\":{\"window\":[1,1]}}", { { "globals", 2, { 0, -1 } } }, HEED_ERR_LIMIT, "globals" },
    { "{\"mask\":{\"window\":[1,1]}}", { { "globals", 2, { 0, INT64_MAX } } }, HEED_OK, "" },
    { "{\"mask\":{\"window\":[1,1]},\"offset\":-9223372036854775807}", { { "globals", 2, { 0, INT64_MAX } } }, HEED_OK, "" },
    { "{\"mask\":{\"causal\":true},\"offset\":9223372036854775807}", { { NULL, 0, { 0 } } }, HEED_OK, "" },
    { "{\"mask\":{\"stride\":9223372036854775807},\"offset\":-9223372036854775808}", { { NULL, 0, { 0 } } }, HEED_OK, "" },
    { "{\"mask\":{\"window\":[9223372036854775807,9223372036854775807]}}", { { NULL, 0, { 0 } } }, HEED_OK, "" },
    { "{\"mask\":{\"causal\":true}}", { { "offset", 2, { INT64_MIN, INT64_MAX } } }, HEED_OK, "" },
    { "{\"position\":{\"rope\":{}}}", { { "offset", 2, { INT64_MIN, INT64_MAX } } }, HEED_OK, "" },
    { "{\"position\":{\"alibi\":true}}", { { "offset", 2, { INT64_MIN, INT64_MAX } } }, HEED_OK, "" },
    { "{}", { { "offset", 2, { 0, 0 } } }, HEED_ERR_SPEC, "offset" },
    { "{}", { { "globals", 1, { 0 } } }, HEED_ERR_SPEC, "globals" },
    { "{}", { { "graph_indptr", 4, { 0, 1, 2, 3 } }, { "graph_indices", 3, { 0, 1, 4 } } }, HEED_OK, "" },
    { "{}", { { "graph_indptr", 4, { 0, 1, 2, 4 } }, { "graph_indices", 3, { 0, 1, 4 } } }, HEED_ERR_LIMIT, "graph_indices" },
    { "{}", { { "graph_indptr", 4, { 0, 2, 1, 3 } }, { "graph_indices", 3, { 0, 1, 4 } } }, HEED_ERR_LIMIT, "graph_indices" },
    { "{}", { { "graph_indptr", 4, { 0, 1, 2, 3 } }, { "graph_indices", 3, { 0, 1, 5 } } }, HEED_ERR_LIMIT, "graph_indices" },
    { "{}", { { "graph_indptr", 4, { 0, 1, 2, 3 } }, { "graph_indices", 3, { 0, -1, 4 } } }, HEED_ERR_LIMIT, "graph_indices" },
    { "{}", { { "graph_indptr", 4, { 0, 0, 2, 2 } }, { "graph_indices", 2, { 3, 1 } } }, HEED_ERR_LIMIT, "graph_indices" },
    { "{}", { { "graph_indptr", 4, { INT64_MIN, 1, 2, INT64_MAX } }, { "graph_indices", 3, { 0, 1, 4 } } }, HEED_ERR_LIMIT, "graph_ind" },
    { "{}", { { "graph_indptr", 4, { 0, 0, 0, 0 } } }, HEED_ERR_SPEC, "graph_indices" },
    { "{}", { { "graph_indices", 1, { 0 } } }, HEED_ERR_SPEC, "graph_indptr" },
    { "{\"position\":{\"rope\":{\"dims\":3}}}", { { NULL, 0, { 0 } } }, HEED_ERR_SPEC, "position.rope.dims" },
    { "{\"position\":{\"rope\":{\"base\":1}}}", { { NULL, 0, { 0 } } }, HEED_ERR_SPEC, "position.rope.base" },
    { "{\"mask\":{\"block\":[1,1]}}", { { NULL, 0, { 0 } } }, HEED_ERR_SPEC, "block_keep" },
    { "{\"normaliser\":{\"kind\":\"topk\",\"k\":9223372036854775807}}", { { NULL, 0, { 0 } } }, HEED_OK, "" },
    { "{\"probe\":{\"pooled\":[9223372036854775807,1]}}", { { NULL, 0, { 0 } } }, HEED_OK, "" },
    { "{\"probe\":{\"rows\":[0,3]}}", { { NULL, 0, { 0 } } }, HEED_ERR_SPEC, "probe.rows" },
    { "{\"combine\":{\"dropout\":{\"p\":1}}}", { { NULL, 0, { 0 } } }, HEED_ERR_SPEC, "combine.dropout.p" },
    { "{\"combine\":{\"dropout\":{\"p\":0.5,\"seed\":9223372036854775807,\"node\":4294967295}}}", { { NULL, 0, { 0 } } }, HEED_OK, "" },
};

static void integers_out_of_range_end_with_their_name_and_value(void **state)
{
    const scratch *s = *state;

    for (size_t i = 0; i < sizeof integer_cases / sizeof *integer_cases; i++) {
        const integers *x = &integer_cases[i];

        for (heed_attend_kernel k = HEED_ATTEND_AUTO; k <= HEED_ATTEND_REFERENCE; k++) {
            heed_attend *a = begin(s->ctx, 1);
            heed_attend_cost cost;
            heed_error err = { 0 };
            char said[800];
            heed_status st;

            for (int n = 0; n < 3 && x->given[n].name; n++)
                assert_int_equal(heed_attend_add(a, x->given[n].name,
                                                 (heed_tensor){ HEED_TYPE(HEED_I64, x->given[n].n),
                                                                (void *)(uintptr_t)x->given[n].v }, NULL), HEED_OK);
            st = heed_attend_build(a, &(heed_attend_opts){ .spec = x->spec, .kernel = k, .grad = true }, &err);
            if (st == HEED_OK) {
                const heed_status told = heed_attend_cost_of(a, &cost, NULL); /* must not follow bad lists */

                st = heed_attend_run(a, &err);
                assert_true(told == HEED_OK || told == st);
            }
            (void)snprintf(said, sizeof said, "%s: %s", err.path, err.text);
            if (st != x->code || !strstr(said, x->words))
                fail_msg("%zu %s: %s \"%s\"", i, x->spec, heed_status_name(st), said);
            if (st == HEED_OK)
                assert_int_equal(heed_attend_stages(a, &err), HEED_OK);
            heed_attend_free(a);
        }
    }
}

static void a_pooled_block_of_all_the_world_takes_no_memory(void **state)
{
    const scratch *s = *state;

    for (heed_attend_kernel k = HEED_ATTEND_AUTO; k <= HEED_ATTEND_REFERENCE; k++) {
        heed_attend *a = begin(s->ctx, 1);
        heed_error err = { 0 };
        const float *pooled;

        assert_int_equal(heed_attend_build(a, &(heed_attend_opts){ .kernel = k, .probe = "pooled:1000000000000x9000000000000000000,topk:7" },
                                           &err), HEED_OK);
        assert_int_equal(heed_attend_run(a, &err), HEED_OK);
        pooled = result(a, "probe_pooled");
        for (int i = 0; i < B * H; i++)
            assert_float_equal(pooled[i], 1.0 / TK, 1e-6);
        heed_attend_free(a);
    }
}

/* ---- shapes ---- */

static void shapes_that_do_not_fit_are_refused(void **state)
{
    static const struct {
        const char *spec, *name;
        int rank;
        int64_t dims[4];
        const char *words;
    } wrong[] = {
        { "{}", "k", 4, { 2, 3, 5, 4 }, "heads" },
        { "{}", "k", 4, { 1, 2, 5, 4 }, "sequences" },
        { "{}", "k", 4, { 2, 2, 6, 4 }, "keys" },
        { "{}", "k", 4, { 2, 2, 5, 3 }, "width" },
        { "{}", "k", 4, { 2, 0, 5, 4 }, "heads" },
        { "{}", "k", 3, { 2, 5, 4 }, "ranks" },
        { "{}", "bias", 4, { 2, 4, 3, 4 }, "bias" },
        { "{}", "bias", 3, { 4, 3, 5 }, "bias" },
        { "{}", "gate", 4, { 2, 4, 3, 5 }, "gate" },
        { "{}", "sink", 1, { 3 }, "sink" },
        { "{}", "temperature", 2, { 4, 1 }, "temperature" },
        { "{}", "talk_pre", 2, { 4, 3 }, "talk_pre" },
        { "{}", "alibi_slopes", 1, { 2 }, "alibi_slopes" },
        { "{}", "shaw_k", 2, { 4, 4 }, "shaw_k" },
        { "{}", "shaw_k", 2, { 0, 4 }, "shaw_k" },
        { "{}", "t5_table", 2, { 1, 4 }, "t5_table" },
        { "{}", "t5_table", 2, { 0, 4 }, "t5_table" },
        { "{\"position\":{\"t5\":{\"max_distance\":2}}}", "t5_table", 2, { 8, 4 }, "max_distance" },
        { "{}", "dout", 4, { 2, 4, 3, 3 }, "dout" },
        { "{}", "dweights", 4, { 2, 4, 3, 3 }, "dweights" },
        { "{\"normaliser\":{\"kind\":\"sigmoid\"}}", "dlse", 3, { 2, 4, 3 }, "dlse" },
        { "{\"score\":{\"kind\":\"general\"}}", "score_w", 3, { 2, 4, 4 }, "score_w" },
        { "{\"score\":{\"kind\":\"cosine\"}}", "tau", 1, { 0 }, "tau" },
    };
    const scratch *s = *state;

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        heed_attend *a = begin(s->ctx, 1);
        heed_error err = { 0 };
        heed_status st;

        add_floats(a, wrong[i].name, heed_type_of(HEED_F32, wrong[i].rank, wrong[i].dims), 1);
        st = go(a, wrong[i].spec, &err);
        if (heed_status_exit_code(st) != 3 || !strstr(err.text, wrong[i].words))
            fail_msg("%zu %s: %s \"%s\"", i, wrong[i].name, heed_status_name(st), err.text);
        heed_attend_free(a);
    }
}

static void a_tensor_of_another_dtype_or_name_is_refused(void **state)
{
    const scratch *s = *state;
    heed_attend *a = begin(s->ctx, 1);
    heed_error err = { 0 };
    double wide[H] = { 1, 1, 1, 1 };
    int32_t lengths[B] = { 1, 1 };

    assert_int_equal(heed_attend_add(a, "sink", (heed_tensor){ HEED_TYPE(HEED_F64, H), wide }, NULL), HEED_OK);
    assert_int_equal(go(a, "{}", &err), HEED_ERR_DTYPE);
    assert_non_null(strstr(err.text, "sink"));
    heed_attend_free(a);
    a = begin(s->ctx, 1);
    err = (heed_error){ 0 };
    assert_int_equal(heed_attend_add(a, "lengths", (heed_tensor){ HEED_TYPE(HEED_I32, B), lengths }, NULL), HEED_OK);
    assert_int_equal(go(a, "{}", &err), HEED_ERR_DTYPE);
    assert_non_null(strstr(err.text, "lengths is i32; it must be i64"));
    heed_attend_free(a);
    a = begin(s->ctx, 1);
    err = (heed_error){ 0 };
    add_floats(a, "alibi_slope", HEED_TYPE(HEED_F32, H), 1);
    assert_int_equal(go(a, "{}", &err), HEED_ERR_SPEC);
    assert_non_null(strstr(err.text, "alibi_slope; did you mean alibi_slopes?"));
    heed_attend_free(a);
}

/* ---- learned numbers ---- */

static void learned_numbers_out_of_range_end_the_run_with_tensor_place_and_value(void **state)
{
    static const struct {
        const char *spec, *name;
        float v[H];
        const char *words;
    } wrong[] = {
        { "{}", "temperature", { 1, 0, 1, -1 }, "element 1 has the value 0" },
        { "{}", "temperature", { 1, 1, -2, 1 }, "element 2 has the value -2" },
        { "{}", "temperature", { NAN, 1, 1, 1 }, "element 0 has the value nan" },
        { "{}", "temperature", { 1, 1, 1, INFINITY }, "element 3 has the value inf" },
        { "{\"normaliser\":{\"kind\":\"entmax\"}}", "alpha", { 1.5f, 1, 2, 2 }, "element 1 has the value 1" },
        { "{\"normaliser\":{\"kind\":\"entmax\"}}", "alpha", { 1.5f, 2, 2, 2.1f }, "element 3 has the value 2.1; it must be 1.01 to 2" },
        { "{\"normaliser\":{\"kind\":\"adaptive_span\"}}", "span", { 1, NAN, 3, 2 }, "element 1 has the value nan; it must be finite" },
        { "{\"normaliser\":{\"kind\":\"adaptive_span\"}}", "span", { 1, 2, -INFINITY, 2 }, "element 2 has the value -inf; it must be finite" },
    };
    const scratch *s = *state;

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        heed_attend *a = begin(s->ctx, 1);
        heed_error err = { 0 };
        heed_status st;

        assert_int_equal(heed_attend_add(a, wrong[i].name, (heed_tensor){ HEED_TYPE(HEED_F32, H), (void *)(uintptr_t)wrong[i].v }, NULL),
                         HEED_OK);
        st = go(a, wrong[i].spec, &err);
        if (st != HEED_ERR_SPEC || !strstr(err.text, wrong[i].words) || !strstr(err.path, wrong[i].name))
            fail_msg("%zu %s: %s \"%s\" at %s", i, wrong[i].name, heed_status_name(st), err.text, err.path);
        heed_attend_free(a);
    }
}

/* ---- numbers ---- */

static const char *const normalisers[] = {
    "{}",
    "{\"normaliser\":{\"plus_one\":true}}",
    "{\"normaliser\":{\"kind\":\"sparsemax\"}}",
    "{\"normaliser\":{\"kind\":\"entmax15\"}}",
    "{\"normaliser\":{\"kind\":\"entmax\",\"alpha\":1.01}}",
    "{\"normaliser\":{\"kind\":\"sigmoid\"}}",
    "{\"normaliser\":{\"kind\":\"topk\",\"k\":2}}",
    "{\"normaliser\":{\"kind\":\"hard\"}}",
    "{\"normaliser\":{\"kind\":\"linear\"}}",
    "{\"score\":{\"kind\":\"cosine\"}}",
    "{\"score\":{\"kind\":\"neg_distance\"}}",
    "{\"score\":{\"kind\":\"neg_sq_distance\"}}",
    "{\"softcap\":5}",
    "{\"position\":{\"alibi\":true},\"mask\":{\"causal\":true}}",
    "{\"position\":{\"rope\":{}}}",
};

/* Scores of +-1e4, of 0 and denormal ones: finite everywhere, and rows that sum to one. */
static void extreme_scores_stay_finite(void **state)
{
    static const double scales[] = { 100, 1e-20, 1e-42, 0 };
    const scratch *s = *state;

    for (size_t n = 0; n < sizeof normalisers / sizeof *normalisers; n++)
        for (size_t k = 0; k < sizeof scales / sizeof *scales; k++) {
            heed_attend *a = begin(s->ctx, scales[k]);
            heed_error err = { 0 };

            if (go(a, normalisers[n], &err) != HEED_OK)
                fail_msg("%s: %s", normalisers[n], err.text);
            for (int i = 0; i < heed_attend_results(a); i++) {
                heed_tensor t;
                const char *name = heed_attend_result(a, i, &t);

                for (int64_t e = 0; e < heed_type_count(&t.type); e++)
                    if (!isfinite(((const float *)t.data)[e]))
                        fail_msg("%s, inputs of %g: %s[%d] is %g", normalisers[n], scales[k], name, (int)e,
                                 (double)((const float *)t.data)[e]);
            }
            heed_attend_free(a);
        }
}

/* NaN and infinities in one key head of one sequence: the others' bytes are as if it were not there. */
static void what_is_not_finite_stays_in_its_batch_and_head_group(void **state)
{
    static const float poison[] = { NAN, INFINITY, -INFINITY };
    static const char *const where[] = { "q", "k", "v" };
    const scratch *s = *state;

    for (size_t n = 0; n < sizeof normalisers / sizeof *normalisers; n++)
        for (int p = 0; p < 9; p++) {
            float x[B * H * TK * D];
            const bool query = p / 3 == 0;
            heed_attend *a = begin(s->ctx, 1), *bad = begin(s->ctx, 1);
            const heed_type t = query ? HEED_TYPE(HEED_F32, B, H, TQ, D) : HEED_TYPE(HEED_F32, B, G, TK, D);
            heed_tensor v = waves(x, t, 1);

            /* sequence 1, query head 2 or key head 1, row 1 */
            x[query ? ((1 * H + 2) * TQ + 1) * D + 2 : ((1 * G + 1) * TK + 1) * D + 2] = poison[p % 3];
            assert_int_equal(heed_attend_add(bad, where[p / 3], v, NULL), HEED_OK);
            assert_int_equal(go(a, normalisers[n], NULL), HEED_OK);
            (void)go(bad, normalisers[n], NULL); /* any status; it ends */
            if (heed_attend_results(bad) > 0) {
                const float *good_out = result(a, "out"), *bad_out = result(bad, "out"), *good_dq = result(a, "d_q"),
                            *bad_dq = result(bad, "d_q"), *good_dk = result(a, "d_k"), *bad_dk = result(bad, "d_k");
                const size_t untouched = (size_t)((1 * H + 2) * TQ * D) * sizeof(float);

                if (memcmp(good_out, bad_out, untouched) != 0 || memcmp(good_dq, bad_dq, untouched) != 0 ||
                    memcmp(good_dk, bad_dk, (size_t)((1 * G + 1) * TK * D) * sizeof(float)) != 0)
                    fail_msg("%s: %g in %s crosses to another head", normalisers[n], (double)poison[p % 3], where[p / 3]);
            }
            heed_attend_free(a);
            heed_attend_free(bad);
        }
}

/* ---- files that lie ---- */

static void metadata_that_lie_are_refused(void **state)
{
    static const struct {
        heed_pair pair;
        const char *words;
    } lies[] = {
        { { "atol", "nan" }, "atol" },       { { "atol", "1e9" }, "atol" },      { { "rtol", "-1" }, "rtol" },
        { { "rtol", "much" }, "rtol" },      { { "expect", "maybe" }, "expect" }, { { "spec", "[]" }, "braces" },
        { { "spec", "{\"a\":1}" }, "field" }, { { "spec", "" }, "JSON" },          { { "spec", "{\"mask\":{\"causal\":true,\"causal\":false}}" }, "stands twice" },
    };
    const scratch *s = *state;
    float one[1] = { 1 };
    const heed_tensor t = { HEED_TYPE(HEED_F32, 1, 1, 1, 1), one };
    const heed_named_tensor named[] = { { "q", t }, { "k", t }, { "v", t }, { "out", t } };
    char path[256];

    (void)snprintf(path, sizeof path, "%s/lie.safetensors", s->folder);
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        heed_attend *a = NULL;
        heed_error err = { 0 };
        heed_status st;

        assert_int_equal(heed_safetensors_write(s->ctx, path, named, 4, &lies[i].pair, 1, NULL), HEED_OK);
        st = heed_attend_open(&a, s->ctx, path, &err);
        if (st == HEED_OK)
            st = heed_attend_build(a, &(heed_attend_opts){ .expected = true }, &err);
        if (st == HEED_OK || !strstr(err.text, lies[i].words))
            fail_msg("%s = %s: %s \"%s\"", lies[i].pair.key, lies[i].pair.value, heed_status_name(st), err.text);
        heed_attend_free(a);
    }
}

static void an_expectation_of_another_shape_or_of_nothing_fails(void **state)
{
    const scratch *s = *state;
    float one[2] = { 1, 1 };
    const heed_tensor t = { HEED_TYPE(HEED_F32, 1, 1, 1, 1), one };
    const heed_named_tensor named[] = { { "q", t }, { "k", t }, { "v", t }, { "out", { HEED_TYPE(HEED_F32, 1, 1, 1, 2), one } },
                                        { "probe_entropy", { HEED_TYPE(HEED_F32, 1, 1, 1), one } } };
    heed_attend *a = NULL;
    heed_error err = { 0 };
    char path[256];

    (void)snprintf(path, sizeof path, "%s/shape.safetensors", s->folder);
    assert_int_equal(heed_safetensors_write(s->ctx, path, named, 5, NULL, 0, NULL), HEED_OK);
    assert_int_equal(heed_attend_open(&a, s->ctx, path, &err), HEED_OK);
    assert_int_equal(heed_attend_build(a, &(heed_attend_opts){ .expected = true }, &err), HEED_OK);
    assert_int_equal(heed_attend_run(a, &err), HEED_OK);
    assert_int_equal(heed_attend_expected(a), 2);
    for (int i = 0; i < 2; i++) {
        const heed_attend_line l = heed_attend_compare(a, i);

        assert_false(l.ok);
        assert_string_equal(l.why, strcmp(l.name, "out") == 0 ? "another shape" : "not computed");
    }
    heed_attend_free(a);
}

/* ---- everything fails in turn ---- */

typedef struct attempt {
    const char *in, *out, *page, *typed;
} attempt;

static heed_status attempt_run(heed_context *ctx, void *user, heed_error *err)
{
    const attempt *t = user;
    heed_attend *a = NULL;
    heed_attend_cost cost;
    heed_status st = heed_attend_open(&a, ctx, t->in, err);

    if (st == HEED_OK)
        st = heed_attend_build(a, &(heed_attend_opts){ .expected = true, .probe = "rows:0+1,received" }, err);
    if (st == HEED_OK)
        st = heed_attend_build(a, &(heed_attend_opts){ .weights = true, .grad = true }, err);
    if (st == HEED_OK)
        st = heed_attend_cost_of(a, &cost, err);
    if (st == HEED_OK)
        st = heed_attend_run(a, err);
    if (st == HEED_OK)
        st = heed_attend_stages(a, err);
    if (st == HEED_OK)
        st = heed_attend_page(a, t->page, err);
    if (st == HEED_OK)
        st = heed_attend_write(a, t->out, err);
    if (st == HEED_OK)
        st = heed_attend_type(a, "q", "[[1,2],[3,4]]", err);
    if (st == HEED_OK)
        st = heed_attend_type(a, "k", t->typed, err);
    heed_attend_free(a);
    return st;
}

/* A file that was only read may fail to close; what was written is there, whole. */
static bool attempt_right(heed_context *ctx, void *user, heed_status st)
{
    const attempt *t = user;
    heed_safetensors *f = NULL;

    if (st != HEED_OK)
        return true;
    if (heed_safetensors_open(&f, ctx, t->out, NULL) != HEED_OK)
        return false;
    heed_safetensors_close(f);
    return true;
}

static void every_allocation_and_every_file_call_may_fail(void **state)
{
    static const char *const cases[] = { "combine-talking", "pos-t5_bidirectional", "mask-globals" };
    const scratch *s = *state;
    char out[256], page[256], typed[256];
    FILE *f;

    (void)snprintf(out, sizeof out, "%s/out.safetensors", s->folder);
    (void)snprintf(page, sizeof page, "%s/page.html", s->folder);
    (void)snprintf(typed, sizeof typed, "%s/k.csv", s->folder);
    f = fopen(typed, "w");
    assert_non_null(f);
    (void)fputs("1,2\n3,4\n", f);
    assert_int_equal(fclose(f), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char in[512];
        attempt t = { in, out, page, typed };
        const heed_scenario scenario = { .name = cases[i], .run = attempt_run, .right = attempt_right };
        heed_fail_report r;

        (void)snprintf(in, sizeof in, "%s/tests/golden/attention/%s.safetensors", HEED_SOURCE_DIR, cases[i]);
        if (!heed_fail_each(&scenario, &t, &r))
            fail_msg("%s: %s", cases[i], r.first_bad);
        if (i == 0 && !heed_fail_each_file(&scenario, &t, &r))
            fail_msg("%s, files: %s", cases[i], r.first_bad);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_out_of_range_end_with_their_name_and_value),
        cmocka_unit_test(a_pooled_block_of_all_the_world_takes_no_memory),
        cmocka_unit_test(shapes_that_do_not_fit_are_refused),
        cmocka_unit_test(a_tensor_of_another_dtype_or_name_is_refused),
        cmocka_unit_test(learned_numbers_out_of_range_end_the_run_with_tensor_place_and_value),
        cmocka_unit_test(extreme_scores_stay_finite),
        cmocka_unit_test(what_is_not_finite_stays_in_its_batch_and_head_group),
        cmocka_unit_test(metadata_that_lie_are_refused),
        cmocka_unit_test(an_expectation_of_another_shape_or_of_nothing_fails),
        cmocka_unit_test(every_allocation_and_every_file_call_may_fail),
    };

    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
