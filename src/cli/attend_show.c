/* heed attend --show and --explain-plan: numbers in tables with named rows and columns. */

#include "cli/attend.h"

#include <math.h>
#include <string.h>

#define CELLS_MOST 20000 /* numbers of a table: more than anybody reads */

/* One of the three tables: values or a result, of B x H matrices with `tall` rows and `wide` columns. */
typedef struct show_table {
    const char *title;
    char row, column;
    const double *values; /* or a result: */
    heed_tensor result;
    const bool *kept; /* NULL: all are shown */
    int64_t batch, heads, tall, wide;
} show_table;

static double show_number(const show_table *t, int64_t i)
{
    if (t->values)
        return t->values[i];
    return t->result.type.dtype == HEED_F64 ? ((const double *)t->result.data)[i]
                                            : (double)((const float *)t->result.data)[i];
}

static bool show_empty(const show_table *t, int64_t i)
{
    return t->kept && !t->kept[i];
}

/* "0.117310"; a large or tiny table in shortest digits. */
static void show_format(char to[40], double x, bool fixed)
{
    if (isnan(x))
        (void)snprintf(to, 40, "nan");
    else if (isinf(x))
        (void)snprintf(to, 40, x < 0 ? "-inf" : "inf");
    else
        (void)snprintf(to, 40, fixed ? "%.6f" : "%.6g", x);
}

/* Six decimals say something from 1e-3 to 1e6. */
static bool show_fixed(const show_table *t, int64_t first)
{
    double most = 0;

    for (int64_t i = 0; i < t->tall * t->wide; i++)
        if (!show_empty(t, first + i) && isfinite(show_number(t, first + i)))
            most = fmax(most, fabs(show_number(t, first + i)));
    return most == 0 || (most >= 1e-3 && most < 1e6);
}

/* Columns [from, to) of a matrix. */
static void show_columns(const cli *c, const show_table *t, int64_t first, int64_t from, int64_t to, int width,
                         bool fixed)
{
    char text[40], name[32];

    printf("%-6s", "");
    for (int64_t j = from; j < to; j++) {
        (void)snprintf(name, sizeof name, "%c%lld", t->column, (long long)j);
        printf("  %s%*s%s", c->out.dim, width, name, c->out.off);
    }
    putchar('\n');
    for (int64_t i = 0; i < t->tall; i++) {
        (void)snprintf(name, sizeof name, "%c%lld", t->row, (long long)i);
        printf("%s%-6s%s", c->out.dim, name, c->out.off);
        for (int64_t j = from; j < to; j++) {
            const int64_t at = first + i * t->wide + j;

            show_format(text, show_number(t, at), fixed);
            printf("  %*s", width, show_empty(t, at) ? "" : text);
        }
        putchar('\n');
    }
}

/* As many columns beside each other as fit into 80 of a terminal; the rest below. */
static void show_matrix(const cli *c, const show_table *t, int64_t first)
{
    const bool fixed = show_fixed(t, first);
    char text[40];
    int width = 8;

    for (int64_t i = 0; i < t->tall * t->wide; i++) {
        int n;

        show_format(text, show_number(t, first + i), fixed);
        n = show_empty(t, first + i) ? 0 : (int)strlen(text);
        width = n > width ? n : width;
    }
    const int64_t beside = (80 - 6) / (width + 2);

    for (int64_t j = 0; j == 0 || j < t->wide; j += beside) {
        if (j > 0)
            putchar('\n');
        show_columns(c, t, first, j, j + beside < t->wide ? j + beside : t->wide, width, fixed);
    }
}

static void show_text(const cli *c, const show_table *t)
{
    for (int64_t b = 0; b < t->batch; b++)
        for (int64_t h = 0; h < t->heads; h++) {
            printf("%s%s%s", c->out.bold, t->title, c->out.off);
            if (t->batch > 1)
                printf("  sequence %lld", (long long)b);
            if (t->heads > 1)
                printf("  head %lld", (long long)h);
            putchar('\n');
            show_matrix(c, t, (b * t->heads + h) * t->tall * t->wide);
            putchar('\n');
        }
}

/* [B][H][rows][columns], null for what is not there. */
static void show_json(const char *name, const show_table *t)
{
    const int64_t dims[4] = { t->batch, t->heads, t->tall, t->wide };
    int64_t at[4] = { 0 };
    int64_t i = 0;

    printf("\"%s\":", name);
    for (int level = 0;;) {
        if (level < 4 && at[level] < dims[level]) {
            fputs(at[level] ? "," : "[", stdout);
            if (level < 3) {
                at[++level] = 0;
                continue;
            }
            if (show_empty(t, i))
                fputs("null", stdout);
            else
                heed__cli_number(stdout, show_number(t, i));
            i++;
            at[level]++;
            continue;
        }
        fputs(at[level] == 0 ? "[]" : "]", stdout);
        if (level == 0)
            return;
        at[--level]++;
    }
}

static heed_status show_result(cli *c, const heed_attend *x, const char *name, show_table *t)
{
    for (int i = 0; i < heed_attend_results(x); i++)
        if (strcmp(heed_attend_result(x, i, &t->result), name) == 0) {
            if (t->result.type.dtype == HEED_F32 || t->result.type.dtype == HEED_F64)
                return HEED_OK;
            return heed__cli_fail(c, HEED_ERR_DTYPE, "--show prints f32 and f64; %s is %s", name,
                                  heed_dtype_name(t->result.type.dtype));
        }
    return heed__cli_fail(c, HEED_ERR_BUG, "no %s to show", name);
}

heed_status heed__attend_show(cli *c, heed_attend *x, bool json)
{
    heed_attend_stage z, out;
    show_table tables[3] = { { .title = "scores z", .row = 'q', .column = 'k' },
                             { .title = "weights", .row = 'q', .column = 'k' },
                             { .title = "out", .row = 'q', .column = 'd' } };

    TRY(heed_attend_stages(x, &c->err));
    z = heed_attend_stage_at(x, 7);
    out = heed_attend_stage_at(x, 13);
    TRY(show_result(c, x, "weights", &tables[1]));
    TRY(show_result(c, x, "out", &tables[2]));
    tables[0].values = z.values;
    tables[0].kept = heed_attend_kept(x);
    for (int i = 0; i < 3; i++) {
        const int64_t *dims = i == 2 ? out.dims : heed_attend_stage_at(x, 8).dims;

        tables[i].batch = dims[0];
        tables[i].heads = dims[1];
        tables[i].tall = dims[2];
        tables[i].wide = dims[3];
        if (dims[0] * dims[1] * dims[2] * dims[3] > CELLS_MOST)
            return heed__cli_fail(c, HEED_ERR_LIMIT,
                                  "%s has more than %d numbers, too many to print; --out FILE writes them",
                                  tables[i].title, CELLS_MOST);
    }
    tables[1].kept =
        heed_attend_stage_at(x, 10).used ? NULL : tables[0].kept; /* talk_post fills what was empty */
    if (json) {
        putchar('{');
        if (z.number) {
            show_json("scores", &tables[0]);
            putchar(',');
        }
        show_json("weights", &tables[1]);
        putchar(',');
        show_json("out", &tables[2]);
        puts("}");
        return HEED_OK;
    }
    for (int i = z.number ? 0 : 1; i < 3; i++)
        show_text(c, &tables[i]);
    return HEED_OK;
}

/* ---- --explain-plan ---- */

static void explain_json(const heed_attend *x, const heed_attend_cost *cost)
{
    printf("{\"parts\":[");
    for (int i = 0; i < cost->parts; i++) {
        const heed_attend_part p = heed_attend_part_at(x, i);

        printf(i ? ",{\"op\":" : "{\"op\":");
        heed__cli_json(stdout, p.op);
        printf(",\"kernel\":");
        heed__cli_json(stdout, p.kernel);
        printf(",\"passed_over\":");
        heed__cli_json(stdout, p.passed_over);
        printf(",\"gives\":");
        heed__cli_json(stdout, p.gives);
        printf(",\"flops\":");
        heed__cli_number(stdout, p.flops);
        putchar('}');
    }
    printf("],\"tiles\":%lld,\"kept\":%lld,\"flops\":", (long long)cost->tiles, (long long)cost->kept);
    heed__cli_number(stdout, cost->flops);
    printf(",\"bytes\":%llu,\"block_bytes\":%llu,\"steps\":%d}\n", (unsigned long long)cost->bytes,
           (unsigned long long)cost->block_bytes, cost->steps);
}

heed_status heed__attend_explain(cli *c, const heed_attend *x, bool json)
{
    heed_attend_cost cost;
    char kept[32], tiles[32], bytes[32], block[32];

    TRY(heed_attend_cost_of(x, &cost, &c->err));
    if (json) {
        explain_json(x, &cost);
        return HEED_OK;
    }
    for (int i = 0; i < cost.parts; i++) {
        const heed_attend_part p = heed_attend_part_at(x, i);

        printf("%-16s  kernel %s%s%s", p.op, c->out.bold, p.kernel, c->out.off);
        if (p.gives[0])
            printf("; gives %s besides", p.gives);
        if (p.passed_over[0])
            printf("; does not serve: %s", p.passed_over);
        putchar('\n');
    }
    printf("%-16s  %s kept of %s (128 queries by 64 keys, all heads)\n", "tiles",
           heed__cli_count(kept, cost.kept), heed__cli_count(tiles, cost.tiles));
    printf("%-16s  %.4g\n", "FLOPs", cost.flops);
    printf("%-16s  %s in %d steps; %s of memory besides inputs and results\n", "bytes moved",
           heed__cli_bytes(bytes, cost.bytes), cost.steps, heed__cli_bytes(block, cost.block_bytes));
    return HEED_OK;
}
