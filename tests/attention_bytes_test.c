/* Bytes, over descriptors that reach every kernel and sizes of several tiles and chunks, on every level: those of a run in which
 * less is there are those of the whole.
 *
 *   1, 2 and 7 threads                  every result, gradients and probes too
 *   one sequence alone                  everything that has sequences
 *   some queries alone                  everything that has queries, wherever they begin
 *   NaN in a key, in a query            everything of other sequences and head groups; of the query's head, other rows */
#include "support/cmocka.h"
#include "support/trial.h"
#include <heed/heed.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BATCH = 2,
    GROUPS = 2,
    HEADS = 4,
    QUERIES = 140,
    KEYS = 200,
    WIDTH = 8,
    VALUES = 5,
    TENSORS_MOST = 16
};

/* tensors: NAME=SIZES, B sequences, H heads, G key heads, q queries, k keys, D and V widths, u and v blocks of 32; or a digit. */
typedef struct variant {
    const char *json; /* members of the descriptor; %s is where the offset stands */
    const char *tensors;
    bool sums, signs; /* lse is defined; weights have signs */
    bool by_row;      /* a row knows nothing of how many there are */
} variant;

static const variant variants[] = {
    { "", "", true, false, true },
    { "%s\"mask\":{\"causal\":true}", "sink=H", true, false, true },
    { "%s\"mask\":{\"causal\":true,\"window\":[90,0]},\"softcap\":5", "globals=2", true, false, true },
    { "%s\"position\":{\"alibi\":true}", "mask=B1qk", true, false, true },
    { "%s\"position\":{\"rope\":{}}", "lengths=B q_lengths=B temperature=H", true, false, true },
    { "", "q_seg=Bq k_seg=Bk bias=1Hqk", true, false, true },
    { "\"mask\":{\"block\":[32,32]}", "block_keep=Huv", true, false, false },
    { "%s\"mask\":{\"stride\":17},\"position\":{\"t5\":{}}", "t5_table=8H", true, false, true },
    { "%s\"mask\":{\"causal\":true}", "shaw_k=5D shaw_v=5V", true, false, true },
    { "%s\"position\":{\"xl\":{\"zero\":3}}", "xl_r=7HD xl_u=HD xl_v=HD", true, false, true },
    { "\"score\":{\"kind\":\"additive\"}", "add_wq=13D add_wk=H3D add_v=H3 add_b=13", true, false, true },
    { "\"score\":{\"kind\":\"cosine\"}", "tau=H gate=BHq1", true, false, true },
    { "\"score\":{\"kind\":\"neg_distance\"}", "", true, false, true },
    { "\"score\":{\"kind\":\"neg_sq_distance\"}", "", true, false, true },
    { "\"combine\":{\"dropout\":{\"p\":0.2,\"seed\":3}}", "", true, false, false },
    { "", "q2=BHqD k2=BGkD lambda=H", true, true, true },
    { "", "talk_pre=HH talk_post=HH", true, true, true },
    { "%s\"mask\":{\"causal\":true},\"normaliser\":{\"kind\":\"sparsemax\"}", "", false, false, true },
    { "\"normaliser\":{\"kind\":\"entmax15\"}", "lengths=B q_lengths=B", false, false, true },
    { "\"normaliser\":{\"kind\":\"entmax\"}", "alpha=H", false, false, true },
    { "%s\"normaliser\":{\"kind\":\"sigmoid\"},\"mask\":{\"window\":[70,5]}", "sigmoid_bias=H", false, false,
      true },
    { "\"normaliser\":{\"kind\":\"topk\",\"k\":9}", "bias=1Hqk", true, false, true },
    { "%s\"normaliser\":{\"kind\":\"hard\"},\"mask\":{\"causal\":true}", "", true, false, true },
    { "%s\"normaliser\":{\"kind\":\"adaptive_span\",\"ramp\":40}", "span=H", true, false, true },
    { "\"normaliser\":{\"kind\":\"linear\"}", "lengths=B", false, false, true },
    { "%s\"normaliser\":{\"kind\":\"linear\"},\"mask\":{\"causal\":true}", "q_lengths=B", false, false,
      true },
};
enum { VARIANTS = sizeof variants / sizeof *variants, OFFSET = KEYS - QUERIES };

static const heed_isa levels[] = { HEED_ISA_PORTABLE, HEED_ISA_X86_64_V3, HEED_ISA_X86_64_V4, HEED_ISA_NEON };

/* What is left of the whole: queries [first, first + queries) of sequences [sequence, sequence + batch); and where NaN stands. */
typedef struct part {
    int64_t sequence, batch, first, queries;
    bool bad_key;   /* the last row of k and v of sequence 1, key head 1 */
    bool bad_query; /* row 70 of sequence 1, head 3 */
} part;
static const part whole = { 0, BATCH, 0, QUERIES, false, false };

/* ---- numbers ---- */

static float number_of(const char *name, int64_t i)
{
    uint64_t x = (uint64_t)i + 1;

    for (; *name; name++)
        x = (x ^ (uint64_t)(unsigned char)*name) * 0x9e3779b97f4a7c15u;
    x ^= x >> 29;
    x *= 0xbf58476d1ce4e5b9u;
    return (float)((double)(x >> 11) * 0x1p-52 - 1);
}

static float float_of(const char *name, int64_t i)
{
    const float x = number_of(name, i);

    if (strcmp(name, "temperature") == 0 || strcmp(name, "alpha") == 0 || strcmp(name, "tau") == 0)
        return 1.5f + 0.4f * x;
    return strcmp(name, "span") == 0 ? 60 + 20 * x : 2 * x;
}

static int64_t integer_of(const char *name, int64_t i)
{
    static const int64_t lengths[] = { 190, 77 }, q_lengths[] = { 139, 65 }, globals[] = { 3, 150 };

    return strcmp(name, "lengths") == 0     ? lengths[i]
           : strcmp(name, "q_lengths") == 0 ? q_lengths[i]
           : strcmp(name, "globals") == 0   ? globals[i]
                                            : (int64_t)(number_of(name, i) * 1.5f + 1);
}

static int64_t size_of(char letter)
{
    switch (letter) {
    case 'B':
        return BATCH;
    case 'G':
        return GROUPS;
    case 'H':
        return HEADS;
    case 'q':
        return QUERIES;
    case 'k':
        return KEYS;
    case 'D':
        return WIDTH;
    case 'V':
        return VALUES;
    case 'u':
        return (QUERIES + 31) / 32;
    case 'v':
        return (KEYS + 31) / 32;
    default:
        return letter - '0';
    }
}

/* Element n of the part as an element of the whole: axes by their letters in `sizes`. */
static int64_t in_whole(const heed_type *type, const char *sizes, const part *p, int64_t n)
{
    int64_t at = 0, step = 1;

    for (int i = type->rank - 1; i >= 0; i--) {
        at += (n % type->dims[i] + (sizes[i] == 'B' ? p->sequence : sizes[i] == 'q' ? p->first : 0)) * step;
        n /= type->dims[i];
        step *= size_of(sizes[i]);
    }
    return at;
}

static bool is_bad(const char *name, const part *p, int64_t at)
{
    const int64_t width = strcmp(name, "v") == 0 ? VALUES : WIDTH;

    if (p->bad_key && (strcmp(name, "k") == 0 || strcmp(name, "v") == 0))
        return at / width == (1 * GROUPS + 1) * KEYS + KEYS - 1;
    return p->bad_query && strcmp(name, "q") == 0 && at / width == (1 * HEADS + 3) * QUERIES + 70;
}

static heed_dtype dtype_of(const char *name)
{
    if (strstr(name, "lengths") || strstr(name, "_seg") || strcmp(name, "globals") == 0)
        return HEED_I64;
    return strcmp(name, "mask") == 0 || strcmp(name, "block_keep") == 0 ? HEED_BOOL : HEED_F32;
}

static void add(heed_attend *a, const char *what, const part *p)
{
    const char *sizes = strchr(what, '=') + 1;
    char name[24], letters[8];
    heed_tensor t = { .data = NULL };
    int64_t n;

    (void)snprintf(name, sizeof name, "%.*s", (int)(sizes - 1 - what), what);
    (void)snprintf(letters, sizeof letters, "%.*s", (int)strcspn(sizes, " "), sizes);
    t.type.rank = (int)strlen(letters);
    for (int i = 0; i < t.type.rank; i++)
        t.type.dims[i] = letters[i] == 'B' ? p->batch : letters[i] == 'q' ? p->queries : size_of(letters[i]);
    t.type.dtype = dtype_of(name);
    n = heed_type_count(&t.type);
    t.data = trial_memory((size_t)n, heed_dtype_size(t.type.dtype));
    for (int64_t k = 0; k < n; k++) {
        const int64_t at = in_whole(&t.type, letters, p, k);

        if (t.type.dtype == HEED_I64)
            ((int64_t *)t.data)[k] = strcmp(name, "q_lengths") == 0 && integer_of(name, at) > p->queries
                                         ? p->queries
                                         : integer_of(name, at);
        else if (t.type.dtype == HEED_BOOL)
            ((bool *)t.data)[k] = number_of(name, at) < 0.4f;
        else
            ((float *)t.data)[k] = is_bad(name, p, at) ? NAN : float_of(name, at);
    }
    assert_int_equal(heed_attend_add(a, name, t, NULL), HEED_OK);
    free(t.data);
}

static void add_all(heed_attend *a, const char *list, const part *p)
{
    for (; *list; list += strcspn(list, " "), list += strspn(list, " "))
        add(a, list, p);
}

/* ---- runs ---- */

typedef struct run {
    heed_context *ctx;
    heed_attend *a;
} run;

static run go(const variant *v, heed_isa isa, int threads, const part *p)
{
    const bool by_position = strncmp(v->json, "%s", 2) == 0;
    char spec[300], probe[120], offset[40];
    heed_error err = { 0 };
    run r = { NULL, NULL };

    (void)snprintf(offset, sizeof offset, "\"offset\":%d,", (int)(OFFSET + p->first));
    (void)snprintf(spec, sizeof spec, "{%s%s}", by_position ? offset : "", v->json + (by_position ? 2 : 0));
    (void)snprintf(probe, sizeof probe, "received,mean,pooled:16x24,heads:1+3+1,rows:0%s%s",
                   v->signs ? "" : ",entropy,topk:5", by_position ? ",distance" : "");
    assert_int_equal(heed_context_new(&r.ctx, &(heed_context_opts){ .threads = threads, .isa = isa }, NULL),
                     HEED_OK);
    assert_int_equal(heed_attend_new(&r.a, r.ctx, NULL), HEED_OK);
    add_all(r.a, "q=BHqD k=BGkD v=BGkV dout=BHqV dweights=BHqk", p);
    if (v->sums)
        add_all(r.a, "dlse=BHq", p);
    add_all(r.a, v->tensors, p);
    if (heed_attend_build(r.a,
                          &(heed_attend_opts){ .spec = spec, .probe = probe, .weights = true, .grad = true },
                          &err) != HEED_OK ||
        heed_attend_run(r.a, &err) != HEED_OK)
        fail_msg("%s %s: %s %s", spec, v->tensors, err.path, err.text);
    return r;
}

static void end(run *r)
{
    heed_attend_free(r->a);
    heed_context_free(r->ctx);
}

/* Axes of a result, or NULL where they are neither sequences nor queries. */
static const char *axes_of(const char *name)
{
    static const char *const known[] = { "out=BHqV",
                                         "lse=BHq",
                                         "lse2=BHq",
                                         "weights=BHqk",
                                         "probe_entropy=BHq",
                                         "probe_distance=BHq",
                                         "probe_topk_values=BHq5",
                                         "probe_topk_indices=BHq5",
                                         "probe_mean=Bqk",
                                         "d_q=BHqD",
                                         "d_q2=BHqD",
                                         "probe_received=BHk",
                                         "d_k=BGkD",
                                         "d_v=BGkV",
                                         "d_k2=BGkD" };

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strncmp(known[i], name, strlen(name)) == 0 && known[i][strlen(name)] == '=')
            return known[i] + strlen(name) + 1;
    return NULL;
}

static heed_tensor result(const run *r, const char *name)
{
    heed_tensor t;

    for (int i = 0; i < heed_attend_results(r->a); i++)
        if (strcmp(heed_attend_result(r->a, i, &t), name) == 0)
            return t;
    fail_msg("no result %s", name);
    return (heed_tensor){ .data = NULL };
}

/* Does the NaN of a part reach element `at`? Heads of a group share a key. */
static bool reached(const char *letters, const part *p, int64_t at)
{
    int64_t place[4] = { 0 };
    const int rank = (int)strlen(letters);

    for (int i = rank - 1; i >= 0; at /= size_of(letters[i]), i--)
        place[i] = at % size_of(letters[i]);
    if (place[0] != 1)
        return false;
    if (letters[1] == 'q') /* the mean over heads */
        return p->bad_key || place[1] == 70;
    if (letters[1] == 'G')
        return place[1] == 1;
    return p->bad_key ? place[1] / (HEADS / GROUPS) == 1
                      : place[1] == 3 && (letters[2] != 'q' || place[2] == 70);
}

static int compared;

static void check(const variant *v, heed_isa isa, const run *all, const run *some, const part *p)
{
    const bool less = p->queries < QUERIES, bad = p->bad_key || p->bad_query;

    for (int i = 0; i < heed_attend_results(some->a); i++) {
        heed_tensor got;
        const char *name = heed_attend_result(some->a, i, &got), *letters = axes_of(name);
        const heed_tensor want = result(all, name);
        const size_t size = heed_dtype_size(want.type.dtype);

        if (!less && !bad && p->batch == BATCH) {
            compared++;
            if (!heed_type_equal(&want.type, &got.type) ||
                memcmp(want.data, got.data, (size_t)heed_type_count(&got.type) * size) != 0)
                fail_msg("{%s} %s, %s: %s has other bytes", v->json, v->tensors, heed_isa_name(isa), name);
            continue;
        }
        if (!letters || (less && !strchr(letters, 'q')))
            continue;
        compared++;
        for (int64_t n = 0; n < heed_type_count(&got.type); n++) {
            const int64_t at = in_whole(&got.type, letters, p, n);

            if (!(bad && reached(letters, p, at)) &&
                memcmp((const char *)want.data + (size_t)at * size, (const char *)got.data + (size_t)n * size,
                       size) != 0)
                fail_msg("{%s} %s, %s: %s[%d] has other bytes", v->json, v->tensors, heed_isa_name(isa), name,
                         (int)n);
        }
    }
}

typedef bool serves(const variant *v);

static bool every(const variant *v)
{
    (void)v;
    return true;
}

static bool by_row(const variant *v)
{
    return v->by_row;
}

static bool apart(const variant *v)
{
    return !strstr(v->tensors, "talk");
}

static void hold(serves *of, const part *parts, int n, const int *threads)
{
    compared = 0;
    for (size_t l = 0; l < sizeof levels / sizeof *levels; l++)
        for (int i = 0; i < VARIANTS && heed_isa_available(levels[l]); i++) {
            run all;

            if (!of(&variants[i]))
                continue;
            all = go(&variants[i], levels[l], 1, &whole);
            for (int k = 0; k < n; k++) {
                run some = go(&variants[i], levels[l], threads[k], &parts[k]);

                check(&variants[i], levels[l], &all, &some, &parts[k]);
                end(&some);
            }
            end(&all);
        }
    print_message("%d results compared\n", compared);
    assert_true(compared > 100);
}

static void threads_change_no_byte_of_any_kernel(void **state)
{
    const part parts[] = { whole, whole };

    (void)state;
    hold(every, parts, 2, (const int[]){ 2, 7 });
}

static bool by_sequence(const variant *v)
{
    return !strstr(v->json, "dropout"); /* its random numbers count sequences */
}

static void a_sequence_alone_has_the_bytes_it_has_in_a_batch(void **state)
{
    static const part parts[] = { { 0, 1, 0, QUERIES, false, false }, { 1, 1, 0, QUERIES, false, false } };

    (void)state;
    hold(by_sequence, parts, 2, (const int[]){ 1, 2 });
}

static bool by_query(const variant *v)
{
    return by_row(v) && !strstr(v->tensors, "q_lengths"); /* these count rows from the first */
}

static void queries_alone_have_the_bytes_they_have_among_others(void **state)
{
    static const part parts[] = { { 0, 2, 0, 1, false, false },
                                  { 0, 2, 70, 1, false, false },
                                  { 0, 2, 13, 66, false, false },
                                  { 1, 1, 127, 13, false, false } };

    (void)state;
    hold(by_query, parts, 4, (const int[]){ 1, 1, 2, 1 });
}

static void what_is_not_finite_in_a_key_stays_in_its_group(void **state)
{
    static const part parts[] = { { 0, BATCH, 0, QUERIES, true, false } };

    (void)state;
    hold(apart, parts, 1, (const int[]){ 2 });
}

static void what_is_not_finite_in_a_query_stays_in_its_row(void **state)
{
    static const part parts[] = { { 0, BATCH, 0, QUERIES, false, true } };

    (void)state;
    hold(apart, parts, 1, (const int[]){ 2 });
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_change_no_byte_of_any_kernel),
        cmocka_unit_test(a_sequence_alone_has_the_bytes_it_has_in_a_batch),
        cmocka_unit_test(queries_alone_have_the_bytes_they_have_among_others),
        cmocka_unit_test(what_is_not_finite_in_a_key_stays_in_its_group),
        cmocka_unit_test(what_is_not_finite_in_a_query_stays_in_its_row),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
