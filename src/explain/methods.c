/* Methods: from attentions to one number >= 0 for each cell of the picture.
 *
 * A_l is the matrix of attention l, [queries, keys], its rows summing to one: the mean over heads, or one
 * head. Which attentions: those from the input to the one that is read (the last on the picture, or
 * opts.layer) whose keys lie on the same tokens. Those before it must be square, queries being the same
 * tokens; the one that is read need not be. Others (cross-attention to something else, another resolution)
 * are left out: no rule says how their tokens would be told apart.
 *
 * Which query is read, r: the only one, when there is one (attentive pooling); the class token, when the
 * keys begin with one; else the mean over all queries, for a model that takes the mean over tokens or reads
 * them all. As a row vector, r is a unit vector or 1/n. Since all is linear in r, nothing but products of a
 * row and a matrix is computed, from the last attention back to the input.
 *
 *   raw       r A_last
 *   rollout   r R, R = F_last ... F_0, F_l = rows of A_l + I divided by their sums, which for rows that sum
 *             to one is (A + I) / 2. A pooling at the end has no residual path: r = its row, and R ends
 *             before it.                                             Abnar, Zuidema 2020, section 3
 *   gradient  r (R - I), R <- R + B_l R from the input up, B_l = mean over heads of max(0, A * dA), dA the
 *             gradient of the target's logit.  R - I, because what a token adds to itself is the same for
 *             all. A pooling: r = its row of B, and r R.             Chefer, Gur, Wolf 2021, eq. 5, 6
 *   received  mean over l of (1 / queries) sum_i A_l[i, .]
 *   occlusion max(0, ln p(target) - ln p(target with the cell blanked)). Zeiler, Fergus 2014, section 4.2
 *
 * Class tokens are cut off at the end and the rest is made to sum to one. */

#include "base/error.h"
#include "base/sizes.h"
#include "explain/explain.h"

#include <math.h>
#include <string.h>

/* ---- which attentions, which query ---- */

static bool methods_square(const heed_attention_record *a)
{
    return a->queries == a->keys;
}

static bool methods_on_grid(const explaining *x, int64_t i)
{
    const heed_token_grid *g = &x->attentions[i].grid, *last = &x->attentions[x->last].grid;

    return g->rows == last->rows && g->cols == last->cols && g->first == last->first;
}

/* Is attention i < last a factor of the products? */
static bool methods_factor(const explaining *x, int64_t i)
{
    return methods_on_grid(x, i) && methods_square(&x->attentions[i]);
}

/* With one head asked for, attentions that have only one are taken as they are. */
static int64_t methods_head(const explaining *x, const heed_attention_record *a)
{
    return x->opts.head.set && a->heads > 1 ? x->opts.head.value : -1;
}

static double methods_weight(const heed_attention_record *a, int64_t at)
{
    return (double)a->weights[at];
}

static double methods_relevance(const heed_attention_record *a, int64_t at)
{
    return fmax(0, (double)a->weights[at] * (double)a->gradient[at]);
}

typedef double methods_entry(const heed_attention_record *a, int64_t at);

/* row [keys] += share * the row of query i, mean over heads. */
static void methods_add_row(double *row, const explaining *x, const heed_attention_record *a, int64_t i,
                            double share, methods_entry *entry)
{
    const int64_t only = methods_head(x, a), begin = only < 0 ? 0 : only,
                  end = only < 0 ? a->heads : only + 1;

    for (int64_t h = begin; h < end; h++)
        for (int64_t j = 0; j < a->keys; j++)
            row[j] += share / (double)(end - begin) * entry(a, (h * a->queries + i) * a->keys + j);
}

typedef enum methods_query { QUERY_ONLY, QUERY_CLASS, QUERY_MEAN } methods_query;

static methods_query methods_read(const heed_attention_record *a)
{
    return a->queries == 1 ? QUERY_ONLY : methods_square(a) && a->grid.first > 0 ? QUERY_CLASS : QUERY_MEAN;
}

/* r A: the row of the query that is read. */
static void methods_read_row(double *row, const explaining *x, const heed_attention_record *a,
                             methods_entry *entry)
{
    if (methods_read(a) != QUERY_MEAN)
        methods_add_row(row, x, a, 0, 1, entry);
    else
        for (int64_t i = 0; i < a->queries; i++)
            methods_add_row(row, x, a, i, 1 / (double)a->queries, entry);
}

/* Rows [keys] of doubles for a product: what comes in and what goes out. */
static heed_status methods_rows(double **in, double **out, const explaining *x, heed_error *err)
{
    const size_t n = (size_t)x->attentions[x->last].keys;

    *in = heed__alloc(x->ctx->heap, 2 * n, sizeof **in);
    *out = *in ? *in + n : NULL;
    return *in ? HEED_OK : heed__fail_memory(err, 2 * (uint64_t)n * sizeof **in);
}

static void methods_cut(double *map, const explaining *x, const double *row)
{
    memcpy(map, row + x->grid.first, (size_t)(x->grid.rows * x->grid.cols) * sizeof *map);
}

/* The attention that is read may be square, and then it is the last factor; else the row begins with it. */
static int64_t methods_begin(double *row, const explaining *x, methods_entry *entry)
{
    const heed_attention_record *a = &x->attentions[x->last];

    if (!methods_square(a)) {
        methods_read_row(row, x, a, entry);
        return x->last - 1;
    }
    if (methods_read(a) == QUERY_MEAN)
        for (int64_t j = 0; j < a->keys; j++)
            row[j] = 1 / (double)a->keys;
    else
        row[0] = 1;
    return x->last;
}

/* ---- the methods ---- */

static heed_status methods_raw(explaining *x, double *map, heed_error *err)
{
    double *row, *other;

    TRY(methods_rows(&row, &other, x, err));
    methods_read_row(row, x, &x->attentions[x->last], methods_weight);
    methods_cut(map, x, row);
    heed__release(x->ctx->heap, row);
    return HEED_OK;
}

/* Sum of a row, mean over heads: 1, or 0 for a query that keeps nothing. */
static double methods_row_sum(const explaining *x, const heed_attention_record *a, int64_t i)
{
    const int64_t only = methods_head(x, a), begin = only < 0 ? 0 : only,
                  end = only < 0 ? a->heads : only + 1;
    double sum = 0;

    for (int64_t h = begin; h < end; h++)
        for (int64_t j = 0; j < a->keys; j++)
            sum += (double)a->weights[(h * a->queries + i) * a->keys + j];
    return sum / (double)(end - begin);
}

static heed_status methods_rollout(explaining *x, double *map, heed_error *err)
{
    double *row, *next, *block;

    TRY(methods_rows(&row, &next, x, err));
    block = row;
    for (int64_t i = methods_begin(row, x, methods_weight); i >= 0; i--) {
        const heed_attention_record *a = &x->attentions[i];
        double *last = row;

        if (!methods_factor(x, i))
            continue;
        memset(next, 0, (size_t)a->keys * sizeof *next);
        for (int64_t q = 0; q < a->queries; q++) {
            const double share = row[q] / (methods_row_sum(x, a, q) + 1);

            next[q] += share;
            methods_add_row(next, x, a, q, share, methods_weight);
        }
        row = next;
        next = last;
    }
    methods_cut(map, x, row);
    heed__release(x->ctx->heap, block);
    return HEED_OK;
}

/* row = r (R - I) grows from zero by row += (r + row) B; where a pooling began it, r itself counts. */
static heed_status methods_gradient(explaining *x, double *map, heed_error *err)
{
    const heed_attention_record *last = &x->attentions[x->last];
    double *begin, *row, *block, *add;
    int64_t i;

    TRY(methods_rows(&begin, &row, x, err));
    block = begin;
    add = heed__alloc(x->ctx->heap, (size_t)last->keys, sizeof *add);
    if (!add) {
        heed__release(x->ctx->heap, block);
        return heed__fail_memory(err, (uint64_t)last->keys * sizeof *add);
    }
    for (i = methods_begin(begin, x, methods_relevance); i >= 0; i--) {
        if (!methods_factor(x, i))
            continue;
        memset(add, 0, (size_t)last->keys * sizeof *add);
        for (int64_t q = 0; q < last->keys; q++)
            methods_add_row(add, x, &x->attentions[i], q, begin[q] + row[q], methods_relevance);
        for (int64_t j = 0; j < last->keys; j++)
            row[j] += add[j];
    }
    for (int64_t j = 0; j < last->keys && !methods_square(last); j++)
        row[j] += begin[j];
    methods_cut(map, x, row);
    heed__release(x->ctx->heap, add);
    heed__release(x->ctx->heap, block);
    return HEED_OK;
}

static heed_status methods_received(explaining *x, double *map, heed_error *err)
{
    double *row, *other;

    TRY(methods_rows(&row, &other, x, err));
    for (int64_t l = 0; l <= x->last; l++) {
        const heed_attention_record *a = &x->attentions[l];

        for (int64_t i = 0; methods_on_grid(x, l) && i < a->queries; i++)
            methods_add_row(row, x, a, i, 1 / (double)a->queries, methods_weight);
    }
    methods_cut(map, x, row);
    heed__release(x->ctx->heap, row);
    return HEED_OK;
}

static heed_status methods_occlusion(explaining *x, double *map, heed_error *err)
{
    const int64_t cells = x->grid.rows * x->grid.cols;

    for (int64_t i = 0; i < cells; i++)
        TRY(heed__blanks_add(&x->blanks, &(const uint32_t){ (uint32_t)i }, 1, &map[i], err));
    TRY(heed__blanks_end(&x->blanks, err));
    for (int64_t i = 0; i < cells; i++)
        map[i] = fmax(0, x->log_probability - map[i]);
    return HEED_OK;
}

/* ---- what went in, for people ---- */

static const char *methods_heads(const explaining *x, const heed_attention_record *a)
{
    return methods_head(x, a) >= 0 ? heed__arena_format(x->arena, "head %lld of %lld",
                                                        (long long)x->opts.head.value, (long long)a->heads)
           : a->heads == 1         ? "1 head"
                                   : heed__arena_format(x->arena, "mean of %lld heads", (long long)a->heads);
}

static const char *methods_about_raw(explaining *x)
{
    static const char *const read[] = {
        [QUERY_ONLY] = "", [QUERY_CLASS] = ", read by the class token", [QUERY_MEAN] = ", mean over queries"
    };
    const heed_attention_record *a = &x->attentions[x->last];
    const char *heads = methods_heads(x, a);

    return heads ? heed__arena_format(x->arena, "%s, %s%s", a->path, heads, read[methods_read(a)]) : NULL;
}

/* "block.0.self_attn, mean of 4 heads; pool, 1 head". */
static const char *methods_about_chain(explaining *x)
{
    const char *all = "", *one;

    for (int64_t i = 0; i <= x->last; i++) {
        if (i < x->last && !methods_factor(x, i))
            continue;
        one = i == x->last ? methods_about_raw(x) : methods_heads(x, &x->attentions[i]);
        if (!one)
            return NULL;
        all = i == x->last ? heed__arena_format(x->arena, "%s%s", all, one)
                           : heed__arena_format(x->arena, "%s%s, %s; ", all, x->attentions[i].path, one);
        if (!all)
            return NULL;
    }
    return all;
}

static const char *methods_about_cells(explaining *x)
{
    return heed__arena_format(x->arena, "each of %lld x %lld cells blanked", (long long)x->grid.rows,
                              (long long)x->grid.cols);
}

const explain_method heed__explain_methods[HEED_EXPLAIN_METHODS] = {
    [HEED_EXPLAIN_RAW] = { "raw", NEEDS_ATTENTION, methods_raw, methods_about_raw },
    [HEED_EXPLAIN_ROLLOUT] = { "rollout", NEEDS_ATTENTION, methods_rollout, methods_about_chain },
    [HEED_EXPLAIN_GRADIENT] = { "gradient", NEEDS_ATTENTION, methods_gradient, methods_about_chain },
    [HEED_EXPLAIN_RECEIVED] = { "received", NEEDS_ATTENTION, methods_received, methods_about_chain },
    [HEED_EXPLAIN_OCCLUSION] = { "occlusion", NEEDS_NOTHING, methods_occlusion, methods_about_cells },
};

const char *heed_explain_method_name(heed_explain_method m)
{
    if (m == HEED_EXPLAIN_ABLATION)
        return "ablation";
    return (int)m >= 0 && (int)m < HEED_EXPLAIN_METHODS ? heed__explain_methods[m].name : "?";
}

/* ---- a map ---- */

heed_status heed__saliency(heed_saliency *out, explaining *x, heed_explain_method method, heed_error *err)
{
    const explain_method *m = &heed__explain_methods[method];
    const int64_t cells = x->grid.rows * x->grid.cols;
    double *sums = heed__alloc(x->ctx->heap, (size_t)cells, sizeof *sums), total = 0;
    float *map = heed__arena_alloc(x->arena, (size_t)cells, sizeof *map);
    heed_status st;

    *out = (heed_saliency){
        .method = method, .about = m->about(x), .rows = x->grid.rows, .cols = x->grid.cols, .map = map
    };
    if (!sums || !map || !out->about) {
        st = heed__fail_memory(err, (uint64_t)cells * sizeof *sums);
        goto done;
    }
    STEP(m->compute(x, sums, err));
    for (int64_t i = 0; i < cells; i++)
        total += sums[i];
    for (int64_t i = 0; i < cells && total > 0; i++)
        map[i] = (float)(sums[i] / total);
done:
    heed__release(x->ctx->heap, sums);
    return st;
}
