/* A graph as a drawing (SVG), layer by layer, as Sugiyama, Tagawa and Toda 1981 do it:
 *
 *   1. a box for each node but those that depend on no input (weights, their transposes, constants): the
 *      parameters and states among them are named in the box that reads them;
 *   2. its layer is one below the lowest box it reads; an edge over several layers gets a bend in each between;
 *   3. boxes of a layer are sorted by the mean place of their neighbours, sweeping down and up;
 *   4. each box moves toward the mean of its neighbours as far as the next box allows;
 *   5. boxes, and edges as smooth lines through their bends. */

#include "base/error.h"
#include "base/text.h"
#include "graph/draw.h"
#include "graph/number.h"

#include <math.h>
#include <string.h>

#define NONE UINT32_MAX
#define SWEEPS 8
#define LETTER 7.2 /* width of a letter of 12 px monospace */
#define LINE 15.0  /* height of a line of text */
#define GAP_X 22.0
#define GAP_Y 30.0
#define BEND_WIDTH 8.0
#define CELLS_MOST 4000000 /* boxes and bends */

/* A box or a bend of an edge. */
typedef struct cell {
    uint32_t node;   /* of the graph; NONE for bends and results */
    uint32_t output; /* of the graph; NONE */
    uint32_t layer;
    int lines;                  /* of text */
    double width, height, x, y; /* x, y: the centre */
    double wish;                /* where x should be */
    int joined;                 /* cells that the wish is the mean of */
} cell;

typedef struct edge {
    uint32_t from, to; /* cells of neighbouring layers */
} edge;

typedef struct drawing {
    const heed_graph *g;
    text *t;
    cell *cells;
    edge *edges;
    uint32_t *cell_of;        /* node -> cell, NONE for those without a box */
    uint32_t *row, *row_at;   /* cells by layer: row[row_at[l] .. row_at[l + 1]) from left to right */
    uint32_t *down, *down_at; /* edges by the layer they leave, the same way */
    uint32_t n_cells, n_edges, layers;
    uint32_t boxes; /* cells before the bends */
    double width, height;
    bool failed; /* a label did not fit into memory */
} drawing;

/* Depends on no input, so that it has no box. */
static bool draw_folded(const drawing *d, const node *n)
{
    if (n->op == &heed__op_input)
        return false;
    for (int j = 0; j < n->n_in; j++)
        if (n->in[j].id && d->cell_of[d->g->values[n->in[j].id].node] != NONE)
            return false;
    return true;
}

/* ---- what a box says ---- */

static void draw_escaped(text *t, const char *words)
{
    for (; *words; words++)
        if (*words == '<' || *words == '>' || *words == '&')
            heed__text_add(t, "&#%d;", *words);
        else
            heed__text_put(t, words, 1);
}

static void draw_type(text *t, const heed_type *type)
{
    heed__text_add(t, "%s[", heed_dtype_name(type->dtype));
    for (int i = 0; i < type->rank; i++)
        heed__text_add(t, "%s%lld", i ? "," : "", (long long)type->dims[i]);
    heed__text_add(t, "]");
}

/* Parameters and states that a node reads itself or through nodes without a box, a line each. */
static void draw_leaves(const drawing *d, const node *n, text *t, int depth)
{
    if (n->op->flags & OP_LEAF && n->op != &heed__op_constant && n->op != &heed__op_input) {
        heed__text_add(t, "\n+ %s ", n->path);
        draw_type(t, &d->g->values[n->first_out].type);
    }
    for (int j = 0; j < n->n_in && depth < 8; j++)
        if (n->in[j].id && d->cell_of[d->g->values[n->in[j].id].node] == NONE)
            draw_leaves(d, heed__maker(d->g, n->in[j]), t, depth + 1);
}

/* The lines of a box: op, scope, type, then the leaves it reads. */
static void draw_label(drawing *d, const cell *c, text *t)
{
    heed__text_clear(t);
    if (c->output != NONE) {
        heed__text_add(t, "%s", d->g->outputs[c->output].name);
    } else {
        const node *n = &d->g->nodes[c->node];

        heed__text_add(t, "%s%s%s\n", n->op->name, n->path[0] ? "\n" : "", n->path);
        draw_type(t, &d->g->values[n->first_out].type);
        draw_leaves(d, n, t, 0);
    }
    d->failed = d->failed || t->failed;
}

static void draw_measure(cell *c, const text *label)
{
    int letters = 0, most = 0;

    c->lines = 1;
    for (const char *p = label->data; *p; p++) {
        letters = *p == '\n' ? 0 : letters + ((*p & 0xc0) != 0x80);
        most = letters > most ? letters : most;
        c->lines += *p == '\n';
    }
    c->width = most * LETTER + 16;
    c->height = c->lines * LINE + 10;
}

/* ---- layers ---- */

static uint32_t draw_layer_below(const drawing *d, heed_value v)
{
    const uint32_t at = d->cell_of[d->g->values[v.id].node];

    return at == NONE ? 0 : d->cells[at].layer + 1;
}

static void draw_add_box(drawing *d, cell c, text *label)
{
    draw_label(d, &c, label);
    draw_measure(&c, label);
    d->layers = c.layer + 1 > d->layers ? c.layer + 1 : d->layers;
    d->cells[d->n_cells++] = c;
}

/* Boxes in the order of the graph, in which every node stands behind those it reads; then the results. */
static void draw_make_boxes(drawing *d, text *label)
{
    const heed_graph *g = d->g;

    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const node *n = &g->nodes[i];
        cell c = { .node = i, .output = NONE };

        d->cell_of[i] = draw_folded(d, n) ? NONE : d->n_cells;
        if (d->cell_of[i] == NONE)
            continue;
        for (int j = 0; j < n->n_in; j++)
            if (n->in[j].id) {
                const uint32_t layer = draw_layer_below(d, n->in[j]);

                c.layer = layer > c.layer ? layer : c.layer;
            }
        draw_add_box(d, c, label);
    }
    for (uint32_t i = 0; i < g->n_outputs; i++)
        draw_add_box(
            d, (cell){ .node = NONE, .output = i, .layer = draw_layer_below(d, g->outputs[i].value) }, label);
    d->boxes = d->n_cells;
}

/* Calls `visit` for each value a box reads from another box: with both cells. */
typedef void draw_visit(drawing *d, uint32_t from, uint32_t to);
static void draw_each_read(drawing *d, draw_visit *visit)
{
    for (uint32_t i = 0; i < d->boxes; i++) {
        const cell c = d->cells[i];
        const heed_value *in = c.output != NONE ? &d->g->outputs[c.output].value : d->g->nodes[c.node].in;
        const int n = c.output != NONE ? 1 : d->g->nodes[c.node].n_in;

        for (int j = 0; j < n; j++) {
            const uint32_t from = in[j].id ? d->cell_of[d->g->values[in[j].id].node] : NONE;

            if (from != NONE)
                visit(d, from, i);
        }
    }
}

static void draw_count_bends(drawing *d, uint32_t from, uint32_t to)
{
    const uint32_t over = d->cells[to].layer - d->cells[from].layer - 1;

    d->n_edges += over + 1;
    d->n_cells += over;
}

static void draw_add_bends(drawing *d, uint32_t from, uint32_t to)
{
    const uint32_t end = d->cells[to].layer;

    for (uint32_t layer = d->cells[from].layer + 1; layer < end; layer++) {
        d->cells[d->n_cells] = (cell){ .node = NONE, .output = NONE, .layer = layer, .width = BEND_WIDTH };
        d->edges[d->n_edges++] = (edge){ from, d->n_cells };
        from = d->n_cells++;
    }
    d->edges[d->n_edges++] = (edge){ from, to };
}

static uint32_t draw_cell_layer(const drawing *d, uint32_t i)
{
    return d->cells[i].layer;
}

static uint32_t draw_edge_layer(const drawing *d, uint32_t i)
{
    return d->cells[d->edges[i].from].layer;
}

/* 0 .. n - 1 by layer, in order within one; at (zeroed) becomes the beginnings. */
static void draw_bucket(const drawing *d, uint32_t *order, uint32_t *at, uint32_t n,
                        uint32_t (*layer)(const drawing *d, uint32_t i))
{
    for (uint32_t i = 0; i < n; i++)
        at[layer(d, i)]++;
    for (uint32_t l = 1; l <= d->layers; l++)
        at[l] += at[l - 1];
    for (uint32_t i = n; i-- > 0;)
        order[--at[layer(d, i)]] = i;
}

/* Makes room for the bends and adds them; then the rows, in the order of making. */
static heed_status draw_make_rows(drawing *d, heed_error *err)
{
    heap *h = d->g->ctx->heap;
    cell *cells;
    uint64_t most;

    draw_each_read(d, draw_count_bends);
    most = (uint64_t)d->n_cells + d->n_edges;
    if (most > CELLS_MOST)
        return heed__fail(err, HEED_ERR_LIMIT,
                          "a drawing of this graph would have %llu boxes and bends; %d are the limit",
                          (unsigned long long)most, CELLS_MOST);
    cells = heed__resize(h, d->cells, (size_t)d->n_cells + 1, sizeof *d->cells);
    if (!cells)
        return heed__fail_memory(err, (uint64_t)d->n_cells * sizeof *d->cells);
    d->cells = cells;
    d->edges = heed__alloc(h, (size_t)d->n_edges + 1, sizeof *d->edges);
    d->row = heed__alloc(h, (size_t)d->n_cells + 1, sizeof *d->row);
    d->down = heed__alloc(h, (size_t)d->n_edges + 1, sizeof *d->down);
    d->row_at = heed__alloc(h, (size_t)d->layers + 1, sizeof *d->row_at);
    d->down_at = heed__alloc(h, (size_t)d->layers + 1, sizeof *d->down_at);
    if (!d->edges || !d->row || !d->down || !d->row_at || !d->down_at)
        return heed__fail_memory(err, (uint64_t)d->n_cells * sizeof *d->row);
    d->n_cells = d->boxes;
    d->n_edges = 0;
    draw_each_read(d, draw_add_bends);
    draw_bucket(d, d->row, d->row_at, d->n_cells, draw_cell_layer);
    draw_bucket(d, d->down, d->down_at, d->n_edges, draw_edge_layer);
    return HEED_OK;
}

/* ---- places ---- */

/* The mean place of what each cell of a row is joined with above (or below); its own where there is nothing. */
static void draw_wishes(drawing *d, uint32_t layer, bool above)
{
    if (above && layer == 0)
        return;
    for (uint32_t i = d->row_at[layer]; i < d->row_at[layer + 1]; i++) {
        cell *c = &d->cells[d->row[i]];

        c->wish = c->x;
        c->joined = 0;
    }
    for (uint32_t i = d->down_at[layer - above]; i < d->down_at[layer - above + 1]; i++) {
        const edge *e = &d->edges[d->down[i]];
        cell *c = &d->cells[above ? e->to : e->from];

        c->wish += (d->cells[above ? e->from : e->to].x - c->wish) / ++c->joined;
    }
}

/* One row from left to right, as near to the wishes as widths allow: groups of touching boxes stand at the mean of
 * what their members wish for (pool adjacent violators; the place of a box less the widths before it must not
 * fall). `mean` and `size` have room for a row. */
static void draw_place(drawing *d, uint32_t layer, double *mean, uint32_t *size)
{
    const uint32_t begin = d->row_at[layer], end = d->row_at[layer + 1];
    double before = 0;
    uint32_t groups = 0, i = begin;

    for (uint32_t at = begin; at < end; at++) {
        const cell *c = &d->cells[d->row[at]];

        mean[groups] = c->wish - before - c->width / 2;
        size[groups++] = 1;
        before += c->width + GAP_X;
        while (groups > 1 && mean[groups - 2] > mean[groups - 1]) {
            const double a = size[groups - 2], b = size[groups - 1];

            mean[groups - 2] = (mean[groups - 2] * a + mean[groups - 1] * b) / (a + b);
            size[groups - 2] += size[groups - 1];
            groups--;
        }
    }
    before = 0;
    for (uint32_t k = 0; k < groups; k++)
        for (uint32_t j = 0; j < size[k]; j++, i++) {
            cell *c = &d->cells[d->row[i]];

            c->x = mean[k] + before + c->width / 2;
            before += c->width + GAP_X;
        }
}

/* By wish; equal ones keep their order. Rows are short and nearly sorted. */
static void draw_sort(drawing *d, uint32_t layer)
{
    for (uint32_t i = d->row_at[layer] + 1; i < d->row_at[layer + 1]; i++) {
        const uint32_t moving = d->row[i];
        uint32_t j = i;

        for (; j > d->row_at[layer] && d->cells[d->row[j - 1]].wish > d->cells[moving].wish; j--)
            d->row[j] = d->row[j - 1];
        d->row[j] = moving;
    }
}

static heed_status draw_arrange(drawing *d, heed_error *err)
{
    heap *h = d->g->ctx->heap;
    double *mean = heed__alloc(h, (size_t)d->n_cells + 1, sizeof *mean);
    uint32_t *size = heed__alloc(h, (size_t)d->n_cells + 1, sizeof *size);
    heed_status st = HEED_OK;

    if (!mean || !size) {
        st = heed__fail_memory(err, (uint64_t)d->n_cells * sizeof *mean);
        goto done;
    }
    for (uint32_t l = 0; l < d->layers; l++)
        draw_place(d, l, mean, size);
    for (int sweep = 0; sweep < 2 * SWEEPS; sweep++)
        for (uint32_t k = 0; k < d->layers; k++) {
            const uint32_t layer = sweep % 2 ? d->layers - 1 - k : k;

            draw_wishes(d, layer, sweep % 2 == 0);
            if (sweep < SWEEPS)
                draw_sort(d, layer);
            draw_place(d, layer, mean, size);
        }
done:
    heed__release(h, mean);
    heed__release(h, size);
    return st;
}

/* Heights, and everything moved so that the drawing begins at 0, 0. */
static void draw_settle(drawing *d)
{
    double left = 0, right = 0, y = GAP_Y / 2;

    for (uint32_t i = 0; i < d->n_cells; i++) {
        const cell *c = &d->cells[i];

        left = i == 0 || c->x - c->width / 2 < left ? c->x - c->width / 2 : left;
        right = i == 0 || c->x + c->width / 2 > right ? c->x + c->width / 2 : right;
    }
    for (uint32_t l = 0; l < d->layers; l++) {
        double most = 0;

        for (uint32_t i = d->row_at[l]; i < d->row_at[l + 1]; i++)
            most = fmax(most, d->cells[d->row[i]].height);
        for (uint32_t i = d->row_at[l]; i < d->row_at[l + 1]; i++) {
            d->cells[d->row[i]].x += GAP_X / 2 - left;
            d->cells[d->row[i]].y = y + most / 2;
        }
        y += most + GAP_Y;
    }
    d->width = right - left + GAP_X;
    d->height = y - GAP_Y / 2;
}

/* ---- ink ---- */

static void draw_edge(drawing *d, const edge *e)
{
    const cell *a = &d->cells[e->from], *b = &d->cells[e->to];
    const double y0 = a->y + a->height / 2, y1 = b->y - b->height / 2, middle = (y0 + y1) / 2;
    const bool ends = b->node != NONE || b->output != NONE;

    heed__text_add(d->t, "<path class=\"e\" d=\"M%.1f %.1fC%.1f %.1f %.1f %.1f %.1f %.1f\"%s/>\n", a->x, y0,
                   a->x, middle, b->x, middle, b->x, y1, ends ? " marker-end=\"url(#a)\"" : "");
}

static void draw_box(drawing *d, const cell *c, text *label)
{
    const bool input = c->node != NONE && d->g->nodes[c->node].op == &heed__op_input;
    const double left = c->x - c->width / 2, top = c->y - c->height / 2;
    double y = top + LINE;
    char *line;

    draw_label(d, c, label);
    heed__text_add(d->t,
                   "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"%d\"/>\n",
                   input || c->output != NONE ? "io" : "n", left, top, c->width, c->height,
                   input || c->output != NONE ? 12 : 3);
    line = label->data;
    for (int i = 0; i < c->lines && !d->failed; i++) {
        char *end = strchr(line, '\n');

        if (end)
            *end = 0;
        heed__text_add(d->t, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\">", i == 0 ? "o" : "t", c->x, y);
        draw_escaped(d->t, line);
        heed__text_add(d->t, "</text>\n");
        y += LINE;
        line = end ? end + 1 : line;
    }
}

static void draw_ink(drawing *d, text *label)
{
    heed__text_add(
        d->t,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" height=\"%.0f\">\n"
        "<style>.n{fill:#fff;stroke:#446}.io{fill:#e8f0fe;stroke:#446}.e{fill:none;stroke:#889}"
        "text{font:12px monospace;text-anchor:middle;fill:#223}.o{font-weight:bold}.t{fill:#556}</style>\n"
        "<defs><marker id=\"a\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">"
        "<path d=\"M0 0L8 4L0 8z\" fill=\"#889\"/></marker></defs>\n"
        "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
        d->width, d->height, d->width, d->height);
    for (uint32_t i = 0; i < d->n_edges; i++)
        draw_edge(d, &d->edges[i]);
    for (uint32_t i = 0; i < d->boxes; i++)
        draw_box(d, &d->cells[i], label);
    heed__text_add(d->t, "</svg>\n");
}

heed_status heed__graph_draw(text *t, const heed_graph *g, heed_error *err)
{
    heap *h = g->ctx->heap;
    drawing d = { .g = g, .t = t };
    text label;
    heed_status st = HEED_OK;

    heed__text_init(&label, h, 0);
    d.cells = heed__alloc(h, (size_t)g->n_nodes + g->n_outputs + 1, sizeof *d.cells);
    d.cell_of = heed__alloc(h, (size_t)g->n_nodes + 1, sizeof *d.cell_of);
    if (!d.cells || !d.cell_of) {
        st = heed__fail_memory(err, (uint64_t)g->n_nodes * sizeof *d.cells);
        goto done;
    }
    draw_make_boxes(&d, &label);
    STEP(draw_make_rows(&d, err));
    STEP(draw_arrange(&d, err));
    draw_settle(&d);
    draw_ink(&d, &label);
    if (d.failed)
        st = heed__fail_memory(err, 0);
done:
    heed__text_release(&label);
    heed__release(h, d.cells);
    heed__release(h, d.edges);
    heed__release(h, d.cell_of);
    heed__release(h, d.row);
    heed__release(h, d.row_at);
    heed__release(h, d.down);
    heed__release(h, d.down_at);
    return st;
}
