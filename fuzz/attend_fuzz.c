/* Any descriptor over any tensors: refused with a sentence, or computed, and then what heed_attend_stages says in plain loops.
 *
 *   bytes 0..6   B, Hkv, Hq/Hkv, Tq, Tk, D, Dv, each modulo a little
 *   bytes 7..11  a bit for each other tensor: is it given?
 *   byte 12      which tensor has a size too many; byte 13 seeds their numbers
 *   the rest     the descriptor */

#include "memory_file.h"
#include <heed/heed.h>

#include <math.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEAD = 14, FIRST = 3 };

/* NAME=SIZES: B sequences, H heads, G key heads, q queries, k keys, D and V widths, p rows and an end; or a digit. */
static const char *const tensors[] = {
    "q=BHqD",          "k=BGkD",       "v=BGkV",       "lengths=B",      "q_lengths=B",  "q_seg=Bq",
    "k_seg=Bk",        "globals=2",    "block_keep=H33", "graph_indptr=p", "graph_indices=4", "mask=B1qk",
    "offset=B",        "score_w=HDD",  "add_wq=13D",   "add_wk=H3D",     "add_v=H3",     "add_b=13",
    "prev=BHqk",       "loc_kernel=23", "loc_u=132",   "tau=H",          "shaw_k=5D",    "shaw_v=5V",
    "xl_r=4HD",        "xl_u=HD",      "xl_v=HD",      "alibi_slopes=1", "t5_table=8H",  "bias=1Hqk",
    "temperature=H",   "sink=H",       "sigmoid_bias=1", "alpha=H",      "span=H",       "gate=BHq1",
    "talk_pre=HH",     "talk_post=HH", "q2=BHqD",      "k2=BGkD",        "lambda=1",     "dropout_keep=BHqk",
    "dout=BHqV",
};
enum { TENSORS = sizeof tensors / sizeof *tensors };

typedef struct making {
    int64_t b, g, h, q, k, d, v;
    uint32_t seed;
} making;

static uint32_t mixed(making *m)
{
    m->seed = m->seed * 1664525u + 1013904223u;
    return m->seed >> 8;
}

static int64_t size_of(const making *m, char letter)
{
    switch (letter) {
    case 'B':
        return m->b;
    case 'G':
        return m->g;
    case 'H':
        return m->h;
    case 'q':
        return m->q;
    case 'k':
        return m->k;
    case 'D':
        return m->d;
    case 'V':
        return m->v;
    case 'p':
        return m->q + 1;
    default:
        return letter - '0';
    }
}

/* One integer in sixteen is anything; the others mostly mean something. */
static int64_t integer_of(making *m, const char *name, int64_t i)
{
    const uint32_t x = mixed(m);

    if (x % 64 == 0)
        return x & 64 ? INT64_MIN : INT64_MAX;
    if (strcmp(name, "graph_indptr") == 0)
        return i == m->q ? 4 : i < 2 ? 0 : 2;
    if (strcmp(name, "lengths") == 0)
        return (int64_t)(x % (uint32_t)(m->k + 1));
    if (strcmp(name, "q_lengths") == 0)
        return (int64_t)(x % (uint32_t)(m->q + 1));
    return strcmp(name, "graph_indices") == 0 ? i % 2 * 2 + x % 2 : (int64_t)(x % 7) - 1;
}

static double float_of(making *m, const char *name)
{
    const double x = (double)mixed(m) / (1 << 24);

    if (m->seed % 4096 == 1)
        return m->seed & 4096 ? NAN : 1e30;
    if (strcmp(name, "temperature") == 0 || strcmp(name, "alpha") == 0)
        return 1.02 + 0.9 * x;
    return 3 * (x - 0.5);
}

static bool is_integer(const char *name)
{
    return strstr(name, "lengths") || strstr(name, "_seg") || strstr(name, "graph") ||
           strcmp(name, "offset") == 0 || strcmp(name, "globals") == 0;
}

static bool is_bool(const char *name)
{
    return strcmp(name, "mask") == 0 || strcmp(name, "block_keep") == 0 || strcmp(name, "dropout_keep") == 0;
}

static void add(making *m, heed_attend *a, const char *what, heed_dtype dtype, bool larger)
{
    const char *sizes = strchr(what, '=') + 1;
    char name[32];
    heed_tensor t = { .data = NULL };
    int64_t n;

    snprintf(name, sizeof name, "%.*s", (int)(sizes - 1 - what), what);
    t.type.dtype = is_integer(name) ? HEED_I64 : is_bool(name) ? HEED_BOOL : dtype;
    t.type.rank = (int)strlen(sizes);
    for (int i = 0; i < t.type.rank; i++)
        t.type.dims[i] = size_of(m, sizes[i]) + (larger && i == (int)(m->seed % (uint32_t)t.type.rank));
    n = heed_type_count(&t.type);
    t.data = calloc((size_t)n + 1, heed_dtype_size(t.type.dtype));
    for (int64_t i = 0; t.data && i < n; i++)
        if (t.type.dtype == HEED_I64)
            ((int64_t *)t.data)[i] = integer_of(m, name, i);
        else if (t.type.dtype == HEED_BOOL)
            ((bool *)t.data)[i] = mixed(m) % 3 > 0;
        else if (dtype == HEED_F64)
            ((double *)t.data)[i] = (double)(float)float_of(m, name);
        else
            ((float *)t.data)[i] = (float)float_of(m, name);
    if (t.data)
        (void)(heed_attend_add(a, name, t, NULL) == HEED_OK);
    free(t.data);
}

static double number_at(const heed_tensor *t, int64_t i)
{
    return t->type.dtype == HEED_F64 ? ((const double *)t->data)[i] : (double)((const float *)t->data)[i];
}

/* The largest score, and what the loops say of a result. */
static double most_of(const double *x, int64_t n)
{
    double most = 0;

    for (int64_t i = 0; x && i < n; i++)
        most = fmax(most, isfinite(x[i]) ? fabs(x[i]) : INFINITY);
    return most;
}

static void compare(const heed_attend *a, const char *name, int stage, double allowed)
{
    const heed_attend_stage s = heed_attend_stage_at(a, stage);
    const double most = most_of(s.values, s.dims[0] * s.dims[1] * s.dims[2] * s.dims[3]);

    for (int r = 0; isfinite(most) && r < heed_attend_results(a); r++) {
        heed_tensor t;

        if (strcmp(heed_attend_result(a, r, &t), name) != 0)
            continue;
        for (int64_t i = 0; i < heed_type_count(&t.type); i++)
            check(fabs(number_at(&t, i) - s.values[i]) <= allowed * fmax(1, most));
    }
}

/* Of f32, only where no choice between keys hangs on a rounding. */
static void attend(heed_context *ctx, const uint8_t *data, const char *spec, heed_dtype dtype)
{
    making m = { data[0] % 3, 1 + data[1] % 2, 0, data[3] % 6, data[4] % 8, data[5] % 6, data[6] % 4, data[13] };
    const bool chooses = strstr(spec, "topk") || strstr(spec, "hard");
    heed_attend *a = NULL;
    heed_attend_cost cost;
    heed_error err = { 0 };
    heed_status st;

    m.h = m.g * (data[2] % 3);
    if (heed_attend_new(&a, ctx, NULL) != HEED_OK)
        return;
    for (int i = 0; i < TENSORS; i++)
        if (i < FIRST || data[7 + (i - FIRST) / 8] >> ((i - FIRST) % 8) & 1)
            add(&m, a, tensors[i], dtype, data[12] == i);
    st = heed_attend_build(a, &(heed_attend_opts){ .spec = spec, .weights = true, .grad = (data[11] & 1) != 0 },
                           &err);
    if (st == HEED_OK)
        st = heed_attend_cost_of(a, &cost, &err) == HEED_OK ? heed_attend_run(a, &err) : err.code;
    check(st == err.code && (st == HEED_OK) == (err.text[0] == 0) && st != HEED_ERR_BUG);
    if (st == HEED_OK && heed_attend_stages(a, &err) == HEED_OK) {
        const heed_attend_stage z = heed_attend_stage_at(a, 7);
        const double most = most_of(z.values, z.dims[0] * z.dims[1] * z.dims[2] * z.dims[3]);

        if (dtype == HEED_F64 ? most < 1e4 : most < 1e2 && !chooses) {
            compare(a, "weights", 10, dtype == HEED_F64 ? 1e-6 : 5e-3);
            compare(a, "out", 13, dtype == HEED_F64 ? 1e-6 : 5e-3);
        }
    }
    heed_attend_free(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const heed_context_opts opts = { .threads = 1, .limits = { .memory_bytes = (uint64_t)64 << 20 } };
    heed_context *ctx;
    char *spec;

    if (size < HEAD || size > 4096 || heed_context_new(&ctx, &opts, NULL) != HEED_OK)
        return 0;
    spec = malloc(size - HEAD + 1);
    if (spec) {
        memcpy(spec, data + HEAD, size - HEAD);
        spec[size - HEAD] = 0;
        if (spec[strspn(spec, " \t\r\n")] == '{') { /* anything else names a file */
            attend(ctx, data, spec, HEED_F64);
            attend(ctx, data, spec, HEED_F32);
        }
    }
    free(spec);
    heed_context_free(ctx);
    return 0;
}
