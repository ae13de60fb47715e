/* edit: a graph in which readers of a named value read another one, made of it.
 *
 *   zero   0                    scale   c x            set   c
 *   add    x + c                take    a tensor       factor   f_h x, f an input with a number for each head
 *
 * and with a selection of heads, rows, keys:  selected ? edited : x.
 *
 * A value in the middle of the graph needs nothing but a second look at the map from old values to new ones: from its
 * node on the map holds the edited value, and whatever is copied later reads that. The weights of an attention are in
 * the middle of a node. So the attention is opened first, and no other node: each value that is edited is made an output,
 * opening moves that name to the value inside, and that is where the edit begins.
 *
 * Two places of the operator need more. Probes that take a second pass (pooled, received, mean) make their own weights: of an
 * edited attention they are taken from the edited ones. And differential attention never has its weights as a value that is
 * read, w = w1 - lambda w2, out = w1 v - lambda w2 v: an edit of w is one of w1 and one of w2 with the same effect,
 *   zero, scale, factor   the same of both
 *   set, take             that of w1, and w2 = 0
 *   add                   that of w1 alone */

#include "attention/attention.h"
#include "base/error.h"
#include "base/text.h"
#include "passes/edit.h"
#include "passes/passes.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define WEIGHTS ".weights"
#define NAMES_SHOWN 280 /* bytes of names in a message, about */
#define NO_NODE UINT32_MAX
#define LINEAR_WEIGHTS 1 /* output of linear_attention */

/* Where one edit acts. */
typedef struct edit_place {
    const heed_edit *edit;
    heed_edit_kind kind; /* the edit's, or, at w2, what goes with it */
    heed_value value;    /* in the graph that is looked at */
    uint32_t attention;  /* index of its node in the graph that came in; NO_NODE: the value is no weights */
    heed_type type;      /* of the value */
    heed_value factor;   /* input of HEED_EDIT_FACTOR, in the new graph */
    bool second;         /* w2 of the place before */
} edit_place;

/* ---- names ---- */

int heed__edit_slot(const node *n)
{
    return n->op == &heed__op_attention          ? (int)AT_GET_WEIGHTS
           : n->op == &heed__op_linear_attention ? LINEAR_WEIGHTS
                                                 : -1;
}

/* A tap may show weights under other sizes, [B,T] of [B,1,1,T]: back to the attention that makes them. */
static bool edit_is_weights(const heed_graph *g, heed_value *v, uint32_t *attention)
{
    heed_value at = *v;
    const node *n = heed__maker(g, at);

    while (n->op == &heed__op_reshape) {
        at = n->in[0];
        n = heed__maker(g, at);
    }
    if (heed__edit_slot(n) < 0 || at.id != heed__out(n, heed__edit_slot(n)).id)
        return false;
    *v = at;
    *attention = (uint32_t)(n - g->nodes);
    return true;
}

/* x - lambda y of weights: those of differential attention. */
static bool edit_is_difference(const heed_graph *g, heed_value v, uint32_t *first, uint32_t *second)
{
    const node *sub = heed__maker(g, v), *mul;
    heed_value x, y;

    if (sub->op != &heed__op_sub)
        return false;
    x = sub->in[0];
    mul = heed__maker(g, sub->in[1]);
    if (mul->op != &heed__op_mul)
        return false;
    y = mul->in[1];
    return edit_is_weights(g, &x, first) && edit_is_weights(g, &y, second) &&
           strcmp(g->nodes[*first].path, g->nodes[*second].path) == 0;
}

bool heed__edit_partner(const heed_graph *g, uint32_t first, uint32_t *second)
{
    uint32_t other;

    for (uint32_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op == &heed__op_sub &&
            edit_is_difference(g, heed__out(&g->nodes[i], 0), &other, second) && other == first)
            return true;
    return false;
}

/* Is this node the attention that is called so: by its scope, or scope#2 when it is the second there? */
static bool edit_is_called(const heed_graph *g, uint32_t i, const char *name, size_t size)
{
    const char *scope = *g->nodes[i].path ? g->nodes[i].path : "attention";
    const size_t n = strlen(scope);
    char number[32] = "";
    int64_t nth = 1;

    if (heed__edit_slot(&g->nodes[i]) < 0 || n > size || memcmp(scope, name, n) != 0)
        return false;
    for (uint32_t j = 0; j < i; j++)
        nth += heed__edit_slot(&g->nodes[j]) >= 0 && strcmp(g->nodes[j].path, g->nodes[i].path) == 0;
    if (nth > 1)
        heed__format(number, sizeof number, "#%lld", (long long)nth);
    return size - n == strlen(number) && memcmp(name + n, number, size - n) == 0;
}

/* The names there are, in the order of the graph: attentions, and taps of anything else. */
static int64_t edit_names(const heed_graph *g, const char **names)
{
    int64_t count = 0;

    for (uint32_t i = 0; i < g->n_nodes; i++)
        if (heed__edit_slot(&g->nodes[i]) >= 0)
            names[count++] = *g->nodes[i].path ? g->nodes[i].path : "attention";
    for (uint32_t i = 0; i < g->n_taps; i++) {
        heed_value v = g->taps[i].value;
        uint32_t attention;

        if (!edit_is_weights(g, &v, &attention))
            names[count++] = g->taps[i].name;
    }
    return count;
}

static heed_status edit_unknown(const heed_graph *g, const char *at, heed_error *err)
{
    heap *h = g->ctx->heap;
    const char **names = heed__alloc(h, (size_t)g->n_nodes + g->n_taps + 1, sizeof *names), *near;
    heed_status st = HEED_ERR_USAGE;
    char shown[200];
    int64_t count;
    text list;

    if (!names)
        return heed__fail_memory(err, ((uint64_t)g->n_nodes + g->n_taps) * sizeof *names);
    heed__text_init(&list, h, 0);
    count = edit_names(g, names);
    for (int64_t i = 0; i < count; i++) {
        if (list.size < NAMES_SHOWN)
            heed__text_add(&list, "%s%s", i ? ", " : "", names[i]);
        else if (i + 1 == count)
            heed__text_add(&list, " and more");
    }
    near = heed__nearest(at, names);
    heed__shown(shown, at, strlen(at));
    if (list.failed)
        st = heed__fail_memory(err, 0);
    else if (count == 0)
        heed__fail(err, st, "edit: there is no \"%s\" in this model, whose layers name no value inside",
                   shown);
    else
        heed__fail(err, st, "edit: there is no tap or attention \"%s\" in this model%s%s%s it has %s", shown,
                   near ? ": did you mean " : ";", near ? near : "", near ? "?" : "", list.data);
    heed__text_release(&list);
    heed__release(h, names);
    return st;
}

static bool edit_find_tap(edit_place *p, const heed_graph *g, const char *name, const char *end)
{
    const size_t n = strlen(name);

    for (uint32_t i = 0; i < g->n_taps; i++)
        if (strncmp(g->taps[i].name, name, n) == 0 && strcmp(g->taps[i].name + n, end) == 0) {
            p->value = g->taps[i].value;
            edit_is_weights(g, &p->value, &p->attention);
            return true;
        }
    return false;
}

/* A tap of that name; the tap that shows an attention's weights, by its scope; an attention by its scope, or by a tap that it
 * has not. */
static heed_status edit_find(edit_place *p, const heed_graph *g, heed_error *err)
{
    const char *at = p->edit->at ? p->edit->at : "";
    const size_t size = strlen(at), end = strlen(WEIGHTS);
    const size_t stem = size > end && strcmp(at + size - end, WEIGHTS) == 0 ? size - end : size;

    p->kind = p->edit->kind;
    p->attention = NO_NODE;
    if (edit_find_tap(p, g, at, "") || edit_find_tap(p, g, at, WEIGHTS))
        return HEED_OK;
    for (uint32_t i = 0; i < g->n_nodes; i++)
        if (edit_is_called(g, i, at, stem)) {
            p->value = heed__out(&g->nodes[i], heed__edit_slot(&g->nodes[i]));
            p->attention = i;
            return HEED_OK;
        }
    return edit_unknown(g, at, err);
}

/* The place, and, in differential attention, w2 behind it; returns how many. */
static int edit_split(edit_place *p, const heed_graph *g)
{
    static const heed_edit_kind with[HEED_EDIT_KINDS] = {
        [HEED_EDIT_SCALE] = HEED_EDIT_SCALE,
        [HEED_EDIT_FACTOR] = HEED_EDIT_FACTOR, /* and zero with the others */
    };
    uint32_t first = p->attention, second;

    if (first == NO_NODE ? !edit_is_difference(g, p->value, &first, &second)
                         : !heed__edit_partner(g, first, &second))
        return 1;
    p->attention = first;
    p->value = heed__out(&g->nodes[first], heed__edit_slot(&g->nodes[first]));
    if (p->kind == HEED_EDIT_ADD)
        return 1;
    p[1] = *p;
    p[1].second = true;
    p[1].attention = second;
    p[1].value = heed__out(&g->nodes[second], heed__edit_slot(&g->nodes[second]));
    p[1].kind = with[p->kind];
    return 2;
}

/* ---- what is asked is possible ---- */

static heed_status edit_check_range(const edit_place *p, int axis, const char *word, const heed_edit_range *r,
                                    heed_error *err)
{
    const int64_t size = p->type.rank == 4 ? p->type.dims[axis] : 0;

    if (!r->on)
        return HEED_OK;
    if (p->type.rank != 4)
        return heed__fail_at(
            err, HEED_ERR_USAGE, p->edit->at,
            "edit: %.100s has %d sizes; heads, rows and keys are of values with four, weights above "
            "all: leave %s= out",
            p->edit->at, p->type.rank, word);
    if (r->first < 0 || r->last < r->first || r->last >= size)
        return heed__fail_at(err, HEED_ERR_USAGE, p->edit->at,
                             "edit: %.100s has %lld %ss: %s=%lld-%lld is not within 0-%lld", p->edit->at,
                             (long long)size, word, word, (long long)r->first, (long long)r->last,
                             (long long)size - 1);
    return HEED_OK;
}

/* The sizes under which the tensor broadcasts to the value; false when it does not fit. A sample of a batch may come under
 * the sizes of a tap that shows the weights, or as [1, heads of all windows, rows, keys], as explanations write it. */
static bool edit_fits(heed_type *as, const heed_type *value, const heed_type *tensor)
{
    const int64_t count = heed_type_count(tensor);
    bool fits = tensor->rank == value->rank;

    *as = *tensor;
    for (int i = 0; fits && i < value->rank; i++)
        fits = tensor->dims[i] == value->dims[i] || tensor->dims[i] == 1;
    if (fits)
        return true;
    if (value->rank < 2 || tensor->rank < 1 || value->dims[0] < 1 || count < 1 ||
        tensor->dims[tensor->rank - 1] != value->dims[value->rank - 1])
        return false;
    *as = *value;
    if (count == heed_type_count(value))
        return true;
    as->dims[0] = 1;
    return count == heed_type_count(as) && tensor->dims[0] == 1;
}

static void edit_shown_type(char to[160], const heed_type *t)
{
    int n = snprintf(to, 160, "%s [", heed_dtype_name(t->dtype));

    for (int i = 0; i < t->rank && n < 130; i++)
        n += snprintf(to + n, 160 - (size_t)n, i ? ",%lld" : "%lld", (long long)t->dims[i]);
    (void)snprintf(to + n, 160 - (size_t)n, "]");
}

static heed_status edit_check_tensor(const edit_place *p, heed_error *err)
{
    const heed_edit *e = p->edit;
    const heed_type *t = &e->tensor.type;
    char has[160], wants[160];
    heed_type as;

    if (heed_type_count(t) < 0 || (heed_type_count(t) > 0 && !e->tensor.data))
        return heed__fail_at(err, HEED_ERR_USAGE, e->at, "edit: %.100s: take needs a tensor with its data",
                             e->at);
    if (t->dtype == p->type.dtype && edit_fits(&as, &p->type, t))
        return HEED_OK;
    edit_shown_type(has, t);
    edit_shown_type(wants, &p->type);
    return heed__fail_at(err, t->dtype == p->type.dtype ? HEED_ERR_SHAPE : HEED_ERR_DTYPE, e->at,
                         "edit: %.100s is %s; %s, which it is to take%s%.100s, does not fit", e->at, wants,
                         has, e->from ? " from " : "", e->from ? e->from : "");
}

/* Is n, a probe or a gradient, about the weights of that attention? Two attentions to the same rows differ in their attributes;
 * what is asked of a probe or a gradient tells nothing. */
static bool edit_same_weights(const node *n, const node *attention)
{
    const attention_attrs *a = attention->attrs;
    attention_attrs of = *(const attention_attrs *)n->attrs;

    of.pooled_q = a->pooled_q;
    of.pooled_k = a->pooled_k;
    of.received = a->received;
    if (!heed__fields_equal(heed__attention_fields, &of, a))
        return false;
    for (int i = 0; i < AT_INPUTS; i++)
        if ((i < n->n_in ? n->in[i].id : 0) != (i < attention->n_in ? attention->in[i].id : 0))
            return false;
    return true;
}

/* A gradient made beforehand computes the weights again from q and k, and would not see the edit. */
static heed_status edit_check_gradient(const edit_place *p, const heed_graph *g, heed_error *err)
{
    if (p->attention == NO_NODE || g->nodes[p->attention].op != &heed__op_attention)
        return HEED_OK;
    for (uint32_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op == &heed__op_attention_grad &&
            edit_same_weights(&g->nodes[i], &g->nodes[p->attention]))
            return heed__fail_at(
                err, HEED_ERR_SPEC, p->edit->at,
                "edit: %.100s: this graph has gradients of the attention already: edit the graph "
                "before they are taken",
                p->edit->at);
    return HEED_OK;
}

static heed_status edit_check(edit_place *p, const heed_graph *g, heed_error *err)
{
    const heed_edit *e = p->edit;
    char shown[160];

    p->type = heed__value(g, p->value)->type;
    if ((int)e->kind < 0 || e->kind >= HEED_EDIT_KINDS)
        return heed__fail_at(err, HEED_ERR_USAGE, e->at, "edit: %.100s: there is no edit of kind %d", e->at,
                             (int)e->kind);
    if (p->type.dtype != HEED_F32 && p->type.dtype != HEED_F64) {
        edit_shown_type(shown, &p->type);
        return heed__fail_at(err, HEED_ERR_DTYPE, e->at, "edit: %.100s is %s; only f32 and f64 can be edited",
                             e->at, shown);
    }
    TRY(edit_check_range(p, 1, "head", &e->head, err));
    TRY(edit_check_range(p, 2, "row", &e->row, err));
    TRY(edit_check_range(p, 3, "key", &e->key, err));
    if ((e->kind == HEED_EDIT_SCALE || e->kind == HEED_EDIT_SET || e->kind == HEED_EDIT_ADD) &&
        !isfinite(e->number))
        return heed__fail_at(err, HEED_ERR_NUMERIC, e->at, "edit: %.100s: the number must be finite", e->at);
    if (e->kind == HEED_EDIT_FACTOR && (!e->from || !*e->from))
        return heed__fail_at(err, HEED_ERR_USAGE, e->at, "edit: %.100s: a factor needs the name of its input",
                             e->at);
    if (p->kind == HEED_EDIT_TAKE)
        TRY(edit_check_tensor(p, err));
    return edit_check_gradient(p, g, err);
}

/* ---- opening ---- */

typedef struct edit_opening {
    const heed_graph *g;
    const bool *opened; /* by node of g */
} edit_opening;

/* Only nodes of the first graph are opened; what comes out of them stays. */
static bool edit_stays(const void *user, const heed_graph *g, const node *n)
{
    const edit_opening *o = user;

    return g != o->g || !o->opened[n - g->nodes];
}

/* The value that output i of the last n names. */
static heed_value edit_named(const heed_graph *g, int n, int i)
{
    return g->outputs[g->n_outputs - (uint32_t)(n - i)].value;
}

/* Does the node probe the weights of that attention, by a second pass over the same inputs? */
static bool edit_probes(const node *n, const node *attention)
{
    return n->op == &heed__op_attention_probe && attention->op == &heed__op_attention &&
           edit_same_weights(n, attention);
}

/* The same probes, of weights w. */
static void edit_probe(rewrite *r, const node *n, heed_value w)
{
    const attention_attrs *a = n->attrs;

    heed__enter_path(r->b, n->path);
    r->map[heed__out(n, AT_GET_POOLED).id] = heed__probe_pooled(r->b, w, a->pooled_q, a->pooled_k);
    r->map[heed__out(n, AT_GET_RECEIVED).id] = heed__probe_received(r->b, w);
    r->map[heed__out(n, AT_GET_MEAN).id] = heed__probe_mean(r->b, w);
    heed__set_path(r->b, NULL);
}

/* A copy whose last outputs are the values of the places, in their order, and in which nothing else makes their weights. */
static heed_status edit_name_values(heed_graph **out, const heed_graph *g, const edit_place *places, int n,
                                    heed_error *err)
{
    char name[40];
    rewrite r;

    TRY(heed__rewrite_begin(&r, g, err));
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const edit_place *of = NULL;

        for (int k = 0; k < n && !of; k++)
            if (places[k].attention != NO_NODE && edit_probes(&g->nodes[i], &g->nodes[places[k].attention]))
                of = &places[k];
        if (of)
            edit_probe(&r, &g->nodes[i], r.map[of->value.id]);
        else
            heed__copy_node(r.b, &g->nodes[i], r.map);
    }
    heed__rewrite_names(&r);
    for (int i = 0; i < n; i++) {
        heed__format(name, sizeof name, "heed.edit.%d", i);
        heed_output(r.b, name, r.map[places[i].value.id]);
    }
    return heed__rewrite_end(&r, out, err);
}

/* The same graph with the attentions of the places opened; their values are those inside. */
static heed_status edit_open(heed_graph **out, const heed_graph *g, edit_place *places, int n,
                             heed_error *err)
{
    heed_graph *named = NULL;
    bool *opened = NULL;
    heed_status st;

    STEP(edit_name_values(&named, g, places, n, err));
    opened = heed__alloc(g->ctx->heap, (size_t)named->n_nodes + 1, sizeof *opened);
    if (!opened) {
        st = heed__fail_memory(err, named->n_nodes);
        goto done;
    }
    for (int i = 0; i < n; i++)
        if (places[i].attention != NO_NODE)
            opened[heed__value(named, edit_named(named, n, i))->node] = true;
    STEP(heed__pass_open(out, named, edit_stays, &(const edit_opening){ named, opened }, err));
    for (int i = 0; i < n; i++)
        places[i].value = edit_named(*out, n, i);
done:
    heed_graph_free(named);
    heed__release(g->ctx->heap, opened);
    return st;
}

/* ---- the edit itself ---- */

/* bool, of these sizes but for `axis`: true for what lies in the range. */
static heed_value edit_along(heed_builder *b, int axis, const heed_edit_range *r, int64_t size)
{
    int64_t dims[4] = { 1, 1, 1, 1 };
    heed_value i;

    if (!r->on)
        return (heed_value){ 0 };
    dims[axis] = size;
    i = heed_iota(b, heed_type_of(HEED_I64, 4, dims), axis);
    return heed_and(b, heed_ge(b, i, heed_scalar(b, HEED_I64, (double)r->first)),
                    heed_le(b, i, heed_scalar(b, HEED_I64, (double)r->last)));
}

static heed_value edit_selected(heed_builder *b, const edit_place *p)
{
    const heed_edit_range *ranges[] = { &p->edit->head, &p->edit->row, &p->edit->key };
    heed_value keep = { 0 };

    for (int i = 0; i < 3; i++) {
        const heed_value one = edit_along(b, i + 1, ranges[i], p->type.rank == 4 ? p->type.dims[i + 1] : 0);

        keep = keep.id && one.id ? heed_and(b, keep, one) : keep.id ? keep : one;
    }
    return keep;
}

static heed_value edit_taken(heed_builder *b, const edit_place *p)
{
    heed_tensor t = p->edit->tensor;

    edit_fits(&t.type, &p->type, &p->edit->tensor.type);
    return heed_broadcast(b, heed_constant(b, t), p->type.rank, p->type.dims);
}

/* As many factors as there are heads; one for a value without. */
static int64_t edit_factors(const edit_place *p)
{
    return p->type.rank == 4 ? p->type.dims[1] : 1;
}

static heed_value edit_factor(heed_builder *b, const edit_place *p, heed_value x)
{
    const int64_t heads[4] = { 1, edit_factors(p), 1, 1 };

    return heed_mul(b, x, heed_reshape(b, p->factor, p->type.rank == 4 ? 4 : 0, heads));
}

static heed_value edit_apply(heed_builder *b, const edit_place *p, heed_value x)
{
    const heed_edit *e = p->edit;
    const heed_value keep = edit_selected(b, p);
    heed_value to = { 0 };

    switch (p->kind) {
    case HEED_EDIT_ZERO:
        to = heed__zeros(b, &p->type);
        break;
    case HEED_EDIT_SCALE:
        to = heed_mul_scalar(b, x, e->number);
        break;
    case HEED_EDIT_SET:
        to = heed_full(b, p->type, e->number);
        break;
    case HEED_EDIT_ADD:
        to = heed_add_scalar(b, x, e->number);
        break;
    case HEED_EDIT_TAKE:
        to = edit_taken(b, p);
        break;
    case HEED_EDIT_FACTOR:
        to = edit_factor(b, p, x);
        break;
    case HEED_EDIT_KINDS:
        break;
    }
    return keep.id ? heed_select(b, keep, to, x) : to;
}

/* ---- the pass ---- */

/* Does anything but a tap read the value? live: by node, of the graph without its taps. */
static heed_status edit_check_read(const heed_graph *g, const edit_place *p, const bool *live,
                                   heed_error *err)
{
    bool read = false;

    for (uint32_t i = 0; i < g->n_nodes && !read; i++)
        for (int j = 0; live[i] && j < g->nodes[i].n_in; j++)
            read = read || g->nodes[i].in[j].id == p->value.id;
    for (uint32_t i = 0; i < g->n_outputs; i++)
        read = read || g->outputs[i].value.id == p->value.id;
    for (uint32_t i = 0; i < g->n_assigns; i++)
        read = read || g->assigns[i].value.id == p->value.id;
    return read ? HEED_OK
                : heed__fail_at(err, HEED_ERR_SPEC, p->edit->at,
                                "edit: nothing reads %.100s, so an edit of it would change nothing",
                                p->edit->at);
}

static heed_status edit_check_all_read(const heed_graph *g, const edit_place *places, int n, heed_error *err)
{
    bool *live = heed__alloc(g->ctx->heap, (size_t)g->n_nodes + 1, sizeof *live);
    heed_graph bare = *g;
    heed_status st = HEED_OK;

    if (!live)
        return heed__fail_memory(err, g->n_nodes);
    bare.n_taps = 0;
    heed__live_nodes(&bare, live);
    for (int i = 0; i < n && st == HEED_OK; i++)
        st = edit_check_read(g, &places[i], live, err);
    heed__release(g->ctx->heap, live);
    return st;
}

/* Inputs first: those of the graph, then those of the edits. */
static void edit_inputs(rewrite *r, edit_place *places, int n)
{
    for (uint32_t i = 0; i < r->from->n_nodes; i++)
        if (heed__is_leaf(&r->from->nodes[i], &heed__op_input))
            heed__copy_node(r->b, &r->from->nodes[i], r->map);
    for (int i = 0; i < n; i++) {
        const int64_t factors = edit_factors(&places[i]);

        if (places[i].kind != HEED_EDIT_FACTOR)
            continue;
        places[i].factor = places[i].second ? places[i - 1].factor
                                            : heed_input(r->b, places[i].edit->from,
                                                         heed_type_of(places[i].type.dtype, 1, &factors));
    }
}

static void edit_nodes(rewrite *r, const edit_place *places, int n)
{
    for (uint32_t i = 0; i < r->from->n_nodes; i++) {
        const node *old = &r->from->nodes[i];

        if (!r->live[i])
            continue;
        if (!heed__is_leaf(old, &heed__op_input))
            heed__copy_node(r->b, old, r->map);
        for (int k = 0; k < n; k++) {
            const heed_value v = places[k].value;

            if (heed__value(r->from, v)->node != i)
                continue;
            heed__enter_path(r->b, old->op->flags & OP_LEAF ? "" : old->path);
            r->map[v.id] = edit_apply(r->b, &places[k], r->map[v.id]);
            heed__set_path(r->b, NULL);
        }
    }
}

static heed_status edit_rewrite(heed_graph **out, const heed_graph *opened, edit_place *places, int n,
                                heed_error *err)
{
    heed_graph bare = *opened; /* the same arrays without the names of the values: nothing of it is freed */
    rewrite r;

    bare.n_outputs -= (uint32_t)n;
    TRY(edit_check_all_read(&bare, places, n, err));
    TRY(heed__rewrite_begin(&r, &bare, err));
    edit_inputs(&r, places, n);
    edit_nodes(&r, places, n);
    return heed__rewrite_end(&r, out, err);
}

heed_status heed_graph_edit(heed_graph **out, const heed_graph *g, const heed_edit *edits, int n,
                            heed_error *err)
{
    edit_place *places;
    heed_graph *opened = NULL;
    heed_status st;
    int count = 0;

    if (n < 1)
        return heed__graph_copy(out, g, err);
    places = heed__alloc(g->ctx->heap, 2 * (size_t)n, sizeof *places);
    if (!places)
        return heed__fail_memory(err, 2 * (uint64_t)n * sizeof *places);
    for (int i = 0; i < n; i++) {
        places[count].edit = &edits[i];
        STEP(edit_find(&places[count], g, err));
        for (int end = count + edit_split(&places[count], g); count < end; count++)
            STEP(edit_check(&places[count], g, err));
    }
    STEP(edit_open(&opened, g, places, count, err));
    st = edit_rewrite(out, opened, places, count, err);
done:
    heed_graph_free(opened);
    heed__release(g->ctx->heap, places);
    return st;
}
