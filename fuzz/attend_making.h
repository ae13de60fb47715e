/* A descriptor and its tensors out of bytes, for the fuzz target of the attention operator.
 *
 *   bytes 0..6   B, Hkv, Hq/Hkv, Tq, Tk, D, Dv: each modulo a little; Tq, Tk, D, Dv from 192 on one of sizes around a tile
 *   bytes 7..11  a bit for each tensor behind q, k, v: is it given?
 *   byte 12      which tensor has a size too many; byte 13 seeds their numbers
 *   byte 14      the level, modulo 3; above it, what is held against the run; from 192 on in bf16 (attend_fuzz.c)
 *   byte 15      bit 0: whole weights, 1: gradients, 2: dweights, 3: dlse
 *   the rest     the descriptor as JSON; or, where it does not begin with a brace, a byte for each choice of which one is
 *                made, with the tensors that it needs and of the others those that it can use */
#ifndef FUZZ_ATTEND_MAKING_H
#define FUZZ_ATTEND_MAKING_H

#include "base/sizes.h"
#include <heed/heed.h>

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEAD = 16, BITS_AT = 7, FIRST = 3, SPEC_MOST = 4096, TENSORS_MOST = 48 };

/* NAME=SIZES: B sequences, H heads, h heads or 1, G key heads, q queries, k keys, D and V widths, p rows and an end, e edges, u and v blocks of
 * queries and keys; or a digit. From dweights on they have bits of byte 15. */
static const char *const tensors[] = {
    "q=BHqD",         "k=BGkD",          "v=BGkV",
    "lengths=B",      "q_lengths=B",     "q_seg=Bq",
    "k_seg=Bk",       "globals=2",       "block_keep=Huv",
    "graph_indptr=p", "graph_indices=e", "mask=B1qk",
    "offset=B",       "score_w=HDD",     "add_wq=13D",
    "add_wk=H3D",     "add_v=H3",        "add_b=13",
    "prev=BHqk",      "loc_kernel=23",   "loc_u=132",
    "tau=h",          "shaw_k=5D",       "shaw_v=5V",
    "xl_r=4HD",       "xl_u=HD",         "xl_v=HD",
    "alibi_slopes=h", "t5_table=8H",     "bias=1Hqk",
    "temperature=h",  "sink=h",          "sigmoid_bias=h",
    "alpha=h",        "span=h",          "gate=BHq1",
    "talk_pre=HH",    "talk_post=HH",    "q2=BHqD",
    "k2=BGkD",        "lambda=h",        "dropout_keep=BHqk",
    "dout=BHqV",      "dweights=BHqk",   "dlse=BHq",
};
enum { TENSORS = sizeof tensors / sizeof *tensors, DWEIGHTS = TENSORS - 2 };

typedef struct given {
    char name[24];
    const char *sizes; /* in `tensors` */
    heed_type type;    /* f64 (numbers that f32 holds), i64 or bool */
    void *data;        /* owned */
} given;

typedef struct problem {
    int64_t b, g, h, q, k, d, v, block_q, block_k, edges;
    uint32_t seed;
    char spec[SPEC_MOST];
    bool weights, grad, shared; /* shared: one number for all heads */
    given at[TENSORS_MOST];
    int n;
} problem;

static uint32_t mixed(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* ---- the descriptor ---- */

enum { LINEAR = 8, DIFFERENTIAL = 2 };

/* What has been chosen so far. In seven of eight descriptors later choices avoid what could not stand with the earlier ones. */
typedef struct choosing {
    const uint8_t *at;
    size_t left, size;
    char *spec, needs[400], uses[400]; /* names of tensors, a blank before and behind each */
    int64_t queries, heads;
    int score, normaliser, combine;
    bool sensible;
} choosing;

static uint8_t choice(choosing *c)
{
    if (c->left == 0)
        return 0;
    c->left--;
    return *c->at++;
}

static bool one_in(choosing *c, int n)
{
    return choice(c) % n == n - 1;
}

static void say(choosing *c, const char *format, ...)
{
    va_list list;
    int n;

    va_start(list, format);
    n = vsnprintf(c->spec + c->size, SPEC_MOST - c->size, format, list);
    va_end(list);
    if (n > 0 && c->size + (size_t)n < SPEC_MOST)
        c->size += (size_t)n;
}

static void need(choosing *c, const char *names)
{
    strcat(c->needs, names);
}

static void use(choosing *c, const char *names)
{
    strcat(c->uses, names);
}

static int64_t whole(choosing *c)
{
    static const int64_t numbers[] = { 0,
                                       1,
                                       2,
                                       3,
                                       4,
                                       5,
                                       6,
                                       7,
                                       -1,
                                       -2,
                                       -5,
                                       31,
                                       63,
                                       64,
                                       65,
                                       100,
                                       128,
                                       129,
                                       1000,
                                       INT32_MAX,
                                       UINT32_MAX,
                                       INT64_MAX - 1,
                                       INT64_MAX,
                                       INT64_MIN,
                                       (int64_t)1 << 40,
                                       -((int64_t)1 << 40),
                                       (int64_t)1 << 62,
                                       -((int64_t)1 << 62) };
    const uint8_t n = choice(c);

    return numbers[n < 160 ? n % 8 : n % (sizeof numbers / sizeof *numbers)];
}

static int64_t positive(choosing *c)
{
    const int64_t n = whole(c);

    return c->sensible ? i64_max(1, n) : n;
}

static double real(choosing *c)
{
    static const double numbers[] = { 1,   0.5, 2,    1.5, 0.125, 3,  7,    1.01, 30,
                                      0.3, 1e4, 1e-3, 0,   -0.7,  -1, 1e30, 1e-38 };
    const uint8_t n = choice(c);

    return numbers[n < 160 ? n % 8 : n % (c->sensible ? 12 : sizeof numbers / sizeof *numbers)];
}

static const char *comma(const choosing *c)
{
    return c->spec[c->size - 1] == '{' ? "" : ",";
}

static void say_pair(choosing *c, const char *name, bool any)
{
    const int64_t first = any ? whole(c) : positive(c), second = any ? whole(c) : positive(c);

    say(c, "%s\"%s\":[%" PRId64 ",%" PRId64 "]", comma(c), name,
        any && c->sensible ? i64_max(-1, first) : first, any && c->sensible ? i64_max(-1, second) : second);
}

static void choose_score(choosing *c)
{
    static const struct {
        const char *kind, *needs, *uses;
    } kinds[] = { { "scaled_dot", "", "" },
                  { "dot", "", "" },
                  { "general", " score_w ", "" },
                  { "additive", " add_wq add_wk add_v ", " add_b " },
                  { "location", " add_wq add_wk add_v prev loc_kernel loc_u ", " add_b " },
                  { "cosine", "", " tau " },
                  { "neg_sq_distance", "", "" },
                  { "neg_distance", "", "" } };
    const bool none = c->sensible && c->normaliser == LINEAR;

    c->score = choice(c) % (int)(sizeof kinds / sizeof *kinds);
    if (c->sensible && c->combine == DIFFERENTIAL && c->score > 1 && c->score != 5)
        c->score = 5;
    if (none)
        c->score = 0;
    if (c->score > 0 || (!none && one_in(c, 3))) {
        say(c, "\"score\":{\"kind\":\"%s\"", kinds[c->score].kind);
        if (one_in(c, 3))
            say(c, ",\"scale\":%g", real(c));
        say(c, "}");
    }
    need(c, kinds[c->score].needs);
    use(c, kinds[c->score].uses);
    if (!none && one_in(c, 4))
        say(c, "%s\"softcap\":%g", comma(c), real(c));
}

/* Does anything look at positions? */
static bool choose_position(choosing *c)
{
    int which = choice(c) % 8;

    if (c->sensible && ((c->score > 1 && which >= 5) || (c->combine == DIFFERENTIAL && which >= 5) ||
                        ((c->score == 3 || c->score == 4) && which <= 2)))
        which = 3;
    if (c->sensible && c->normaliser == LINEAR)
        return false;
    use(c, " bias ");
    say(c, "%s\"position\":{", comma(c));
    if (which == 1 || which == 2) {
        say(c, "\"rope\":{");
        if (one_in(c, 3))
            say(c, "\"dims\":%" PRId64, whole(c));
        if (one_in(c, 3))
            say(c, "%s\"base\":%g", comma(c), c->sensible ? 1.5 + real(c) : real(c));
        if (one_in(c, 3))
            say(c, "%s\"factor\":%g", comma(c), real(c));
        say(c, "%s\"interleaved\":%s}", comma(c), one_in(c, 2) ? "true" : "false");
    }
    if (which == 2 || which == 3) {
        say(c, "%s\"alibi\":true", comma(c));
        use(c, " alibi_slopes ");
    }
    if (which == 4) {
        say(c, "%s\"t5\":{\"max_distance\":%" PRId64, comma(c),
            c->sensible ? i64_max(5, whole(c)) : whole(c));
        say(c, ",\"bidirectional\":%s}", one_in(c, 2) ? "true" : "false");
        need(c, " t5_table ");
    }
    if (which == 5) {
        need(c, " shaw_k ");
        use(c, " shaw_v ");
    }
    if (which == 6) {
        say(c, "%s\"xl\":{\"zero\":%" PRId64 "}", comma(c), whole(c));
        need(c, " xl_r xl_u xl_v ");
    }
    say(c, "}");
    return which % 7 > 0;
}

/* The same. */
static bool choose_mask(choosing *c)
{
    uint8_t bits = choice(c);

    if (bits & 64) /* one of them alone, or none: many together hide each other */
        bits = (uint8_t)(1 << bits % 7 & 63);
    use(c, " lengths q_lengths ");
    if (c->sensible && c->normaliser == LINEAR)
        bits &= 1;
    else
        use(c, " mask ");
    say(c, "%s\"mask\":{\"causal\":%s", comma(c), bits & 1 ? "true" : "false");
    if (bits & 2)
        say_pair(c, "window", true);
    if (bits & 4)
        say(c, ",\"stride\":%" PRId64, positive(c));
    if (bits & 8) {
        say_pair(c, "block", false);
        need(c, " block_keep ");
    }
    say(c, "}");
    if (bits & 14)
        use(c, " globals ");
    if (bits & 16)
        need(c, " graph_indptr graph_indices ");
    if (bits & 32)
        need(c, " q_seg k_seg ");
    return bits & 7;
}

static void choose_normaliser(choosing *c)
{
    static const char *const kinds[] = { "softmax", "sparsemax", "entmax15",      "entmax", "sigmoid",
                                         "topk",    "hard",      "adaptive_span", "linear" };
    const int kind = c->normaliser;

    say(c, "%s\"normaliser\":{\"kind\":\"%s\"", comma(c), kinds[kind]);
    if (kind < LINEAR && one_in(c, 3))
        say(c, ",\"temperature\":%g", real(c));
    else if (kind < LINEAR)
        use(c, " temperature ");
    if (kind == 0 && one_in(c, 4))
        say(c, ",\"plus_one\":true");
    else if (kind == 0 && c->combine != DIFFERENTIAL)
        use(c, " sink ");
    if (kind == 3 && one_in(c, 2))
        say(c, ",\"alpha\":%g", c->sensible ? 1.01 + fmod(fabs(real(c)), 0.99) : real(c));
    else if (kind == 3)
        use(c, " alpha ");
    if (kind == 4 && one_in(c, 2))
        say(c, ",\"bias\":%g", real(c));
    else if (kind == 4)
        use(c, " sigmoid_bias ");
    if (kind == 5)
        say(c, ",\"k\":%" PRId64, positive(c));
    if (kind == 7) {
        say(c, ",\"ramp\":%g", real(c));
        need(c, " span ");
    }
    say(c, "}");
    if (kind == 0 || (kind >= 5 && kind < LINEAR))
        use(c, " dlse ");
}

static void choose_combine(choosing *c)
{
    const uint8_t bits = choice(c);

    use(c, " gate dout dweights ");
    if (c->combine == 1)
        use(c, " talk_pre talk_post ");
    if (c->combine == DIFFERENTIAL)
        need(c, " q2 k2 lambda ");
    if (bits & 1 && !(c->sensible && c->normaliser == LINEAR)) {
        say(c, "%s\"combine\":{\"dropout\":{\"p\":%g", comma(c), one_in(c, 8) ? real(c) : 0.3);
        if (bits & 2)
            say(c, ",\"seed\":%" PRId64, positive(c));
        say(c, "}}");
        use(c, " dropout_keep ");
    }
}

static void choose_list(choosing *c, const char *name, int64_t most)
{
    say(c, "%s\"%s\":[", comma(c), name);
    for (int n = choice(c) % 5; n >= 0; n--)
        say(c, "%" PRId64 "%s", c->sensible ? choice(c) % i64_max(1, most) : whole(c), n ? "," : "");
    say(c, "]");
}

static void choose_probes(choosing *c)
{
    uint8_t bits = choice(c);

    if (c->sensible && c->combine > 0)
        bits &= (uint8_t) ~(4 | 32);
    if (c->sensible && c->normaliser == LINEAR)
        bits &= (uint8_t)~64;
    say(c, "%s\"probe\":{", comma(c));
    if (bits & 1 && !(c->sensible && c->queries == 0))
        choose_list(c, "rows", c->queries);
    if (bits & 2)
        choose_list(c, "heads", c->heads);
    if (bits & 4)
        say(c, "%s\"topk\":%" PRId64, comma(c), c->sensible ? positive(c) % 300 + 1 : whole(c));
    if (bits & 8)
        say_pair(c, "pooled", false);
    for (int i = 0; i < 4; i++)
        if (bits >> (4 + i) & 1)
            say(c, "%s\"%s\":true", comma(c),
                (const char *[]){ "received", "entropy", "distance", "mean" }[i]);
    say(c, "}");
}

static void choose(choosing *c)
{
    bool positions;

    c->sensible = !one_in(c, 8);
    c->normaliser = choice(c) % 9;
    c->combine = choice(c) % 4;
    if (c->sensible && ((c->combine == DIFFERENTIAL && c->normaliser > 0) || c->normaliser == LINEAR))
        c->combine = 0;
    say(c, "{");
    choose_score(c);
    positions = choose_position(c);
    positions = choose_mask(c) || positions || c->normaliser == 7;
    if (!c->sensible || positions) {
        if (one_in(c, 3))
            say(c, "%s\"offset\":%" PRId64, comma(c), whole(c));
        else
            use(c, " offset ");
    }
    choose_normaliser(c);
    choose_combine(c);
    choose_probes(c);
    say(c, "}");
}

/* ---- tensors ---- */

static int64_t size_of(const problem *p, char letter)
{
    switch (letter) {
    case 'B':
        return p->b;
    case 'G':
        return p->g;
    case 'H':
        return p->h;
    case 'h':
        return p->shared ? 1 : p->h;
    case 'q':
        return p->q;
    case 'k':
        return p->k;
    case 'D':
        return p->d;
    case 'V':
        return p->v;
    case 'p':
        return p->q + 1;
    case 'e':
        return p->edges;
    case 'u':
        return i64_ceil_div(p->q, p->block_q);
    case 'v':
        return i64_ceil_div(p->k, p->block_k);
    default:
        return letter - '0';
    }
}

/* Keys in the list of query i. */
static int64_t edges_of(const problem *p, int64_t i)
{
    return i64_min(p->k, (i * 7 + 2) % 5);
}

/* One integer in sixty-four is anything; the others mostly mean something. */
static int64_t integer_of(problem *p, const char *name)
{
    const uint32_t x = mixed(&p->seed);

    if (x % 64 == 0)
        return x & 64 ? INT64_MIN : INT64_MAX;
    if (strcmp(name, "lengths") == 0)
        return (int64_t)(x % (uint32_t)(p->k + 1));
    if (strcmp(name, "q_lengths") == 0)
        return (int64_t)(x % (uint32_t)(p->q + 1));
    return (int64_t)(x % 7) - 1;
}

static void fill_graph(problem *p, const given *t)
{
    int64_t *to = t->data, n = 0;

    for (int64_t i = 0; i < p->q; i++) {
        const int64_t edges = edges_of(p, i),
                      least = (int64_t)(mixed(&p->seed) % (uint32_t)(p->k - edges + 1));

        if (t->sizes[0] == 'p')
            to[i + 1] = to[i] + edges;
        for (int64_t k = 0; t->sizes[0] == 'e' && k < edges && n < heed_type_count(&t->type); k++)
            to[n++] = least + k;
    }
}

static double float_of(problem *p, const char *name)
{
    const double x = (double)mixed(&p->seed) / (1 << 24);

    if (p->seed % 65536 == 1)
        return NAN;
    if (p->seed % 65536 == 2)
        return 1e30;
    if (strcmp(name, "temperature") == 0 || strcmp(name, "alpha") == 0)
        return (double)(float)(1.02 + 0.9 * x);
    return (double)(float)(3 * (x - 0.5));
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

/* Axes that may be of size 1 are so by the seed. */
static const char *sizes_of(const problem *p, const char *name, const char *sizes)
{
    static const char *const pairs[] = { "BHqk", "1Hqk", "B1qk", "11qk", "1H1k", "B11k", "1Hq1", "1111" },
                             *const gates[] = {
                                 "BHqV", "BHq1", "1HqV", "B1q1", "1H11", "B11V", "11q1", "1111"
                             };

    if (strcmp(name, "bias") == 0 || strcmp(name, "mask") == 0)
        return pairs[(p->seed + (size_t)p->n) % 8];
    return strcmp(name, "gate") == 0 ? gates[(p->seed + (size_t)p->n) % 8] : sizes;
}

static bool make_tensor(problem *p, const char *what, bool larger)
{
    given *t = &p->at[p->n];
    int64_t n;

    t->sizes = strchr(what, '=') + 1;
    snprintf(t->name, sizeof t->name, "%.*s", (int)(t->sizes - 1 - what), what);
    t->sizes = sizes_of(p, t->name, t->sizes);
    t->type.dtype = is_integer(t->name) ? HEED_I64 : is_bool(t->name) ? HEED_BOOL : HEED_F64;
    t->type.rank = (int)strlen(t->sizes);
    for (int i = 0; i < t->type.rank; i++)
        t->type.dims[i] = size_of(p, t->sizes[i]) + (larger && i == (int)(p->seed % (uint32_t)t->type.rank));
    n = heed_type_count(&t->type);
    t->data = calloc((size_t)n + 1, heed_dtype_size(t->type.dtype));
    if (!t->data)
        return false;
    p->n++;
    if (strstr(t->name, "graph")) {
        if (!larger)
            fill_graph(p, t);
        return true;
    }
    for (int64_t i = 0; i < n; i++)
        if (t->type.dtype == HEED_I64)
            ((int64_t *)t->data)[i] = integer_of(p, t->name);
        else if (t->type.dtype == HEED_BOOL)
            ((bool *)t->data)[i] = mixed(&p->seed) % 3 > 0;
        else
            ((double *)t->data)[i] = float_of(p, t->name);
    return true;
}

static bool named(const char *list, const char *what)
{
    char word[32];

    snprintf(word, sizeof word, " %.*s ", (int)strcspn(what, "="), what);
    return strstr(list, word) != NULL;
}

static int64_t size_from(uint8_t byte, int most)
{
    static const int64_t around[] = { 63, 64, 65, 128, 129, 17, 33, 150 };

    return byte < 192 ? byte % most : around[byte % 8];
}

static void free_problem(problem *p)
{
    for (int i = 0; i < p->n; i++)
        free(p->at[i].data);
    free(p);
}

/* NULL: nothing is to be tried. */
static problem *make_problem(const uint8_t *data, size_t size)
{
    problem *p = calloc(1, sizeof *p);
    choosing c = { .at = data + HEAD, .left = size - HEAD };
    const char *block;
    bool chosen;

    if (!p)
        return NULL;
    *p = (problem){ .b = data[0] % 3,
                    .g = 1 + data[1] % 2,
                    .q = size_from(data[3], 6),
                    .k = size_from(data[4], 8),
                    .d = size_from(data[5], 6),
                    .v = size_from(data[6], 4),
                    .seed = data[13],
                    .block_q = 1,
                    .block_k = 1 };
    p->h = p->g * (data[2] % 8 == 7 ? 0 : 1 + data[2] % 2);
    if (p->q * p->k > 4000) { /* whole scores in f64 and primitives are slow under sanitizers */
        p->b = i64_min(p->b, 1);
        p->h /= p->h > 2 ? 2 : 1;
        p->g = p->h && p->h % p->g == 0 ? p->g : 1;
        p->d = i64_min(p->d, 17);
    }
    p->shared = data[13] % 4 == 3;
    p->weights = data[15] & 1;
    p->grad = (data[15] & 2) != 0;
    memcpy(p->spec, data + HEAD, size - HEAD);
    chosen = p->spec[strspn(p->spec, " \t\r\n")] != '{';
    if (chosen) {
        memset(p->spec, 0, sizeof p->spec);
        c.spec = p->spec;
        c.queries = p->q;
        c.heads = p->h;
        choose(&c);
    }
    block = strstr(p->spec, "\"block\":[");
    if (block) {
        char *end;

        p->block_q = i64_max(1, strtoll(block + 9, &end, 10));
        p->block_k = i64_max(1, *end ? strtoll(end + 1, NULL, 10) : 1);
    }
    for (int64_t i = 0; i < p->q; i++)
        p->edges += edges_of(p, i);
    for (int i = 0; i < TENSORS; i++) {
        const bool bit = i < FIRST || (i < DWEIGHTS ? data[BITS_AT + (i - FIRST) / 8] >> ((i - FIRST) % 8) & 1
                                                    : data[15] >> (2 + i - DWEIGHTS) & 1);

        if ((chosen ? i < FIRST || named(c.needs, tensors[i]) || (bit && named(c.uses, tensors[i])) : bit) &&
            !make_tensor(p, tensors[i], data[12] == i)) {
            free_problem(p);
            return NULL;
        }
    }
    return p;
}

#endif
