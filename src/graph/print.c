/* Printed forms. The text form is stable: it is the golden format of tests.
 *
 *   %1 = input "x" : f32[4,2]
 *   %3 = permute %2 {axes=1,0} : f32[2,8]  @fc1
 *   output "logits" %9 */

#include "base/error.h"
#include "base/text.h"
#include "graph/draw.h"
#include "graph/number.h"

#include <stdio.h>

static void print_type(text *t, const heed_type *type)
{
    heed__text_add(t, "%s[", heed_dtype_name(type->dtype));
    for (int i = 0; i < type->rank; i++)
        heed__text_add(t, "%s%lld", i ? "," : "", (long long)type->dims[i]);
    heed__text_add(t, "]");
}

static void print_small_constant(text *t, const leaf_attrs *a)
{
    const int64_t count = heed_type_count(&a->type);

    heed__text_add(t, " {");
    for (int64_t i = 0; i < count && i < 8; i++) {
        const double number = heed__number_get(a->type.dtype, a->data, i);

        heed__text_add(t, "%s", i ? "," : "");
        if (a->type.dtype == HEED_F32)
            heed__text_float(t, (float)number);
        else
            heed__text_number(t, number);
    }
    heed__text_add(t, count > 8 ? ",...}" : "}");
}

static void print_text(text *t, const heed_graph *g, int indent)
{
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const node *n = &g->nodes[i];

        heed__text_add(t, "%*s", indent, "");
        for (int j = 0; j < n->n_out; j++)
            heed__text_add(t, "%s%%%u", j ? ", " : "", (unsigned)n->first_out + (unsigned)j);
        heed__text_add(t, " = %s", n->op->name);
        for (int j = 0; j < n->n_in; j++)
            if (n->in[j].id)
                heed__text_add(t, " %%%u", (unsigned)n->in[j].id);
            else
                heed__text_add(t, " -");
        if (n->op == &heed__op_constant)
            print_small_constant(t, n->attrs);
        else if (n->op->flags & OP_LEAF)
            heed__text_add(t, " \"%s\"", n->path);
        if (n->op->fields && n->op->fields[0].name) {
            heed__text_add(t, " {");
            heed__fields_print(t, n->op->fields, n->attrs, false);
            heed__text_add(t, "}");
        }
        heed__text_add(t, " : ");
        for (int j = 0; j < n->n_out; j++) {
            heed__text_add(t, "%s", j ? ", " : "");
            print_type(t, &g->values[n->first_out + (uint32_t)j].type);
        }
        if (!(n->op->flags & OP_LEAF) && n->path[0])
            heed__text_add(t, "  @%s", n->path);
        heed__text_add(t, "\n");
        if (n->body)
            print_text(t, n->body, indent + 4);
    }
    for (uint32_t i = 0; i < g->n_outputs; i++)
        heed__text_add(t, "%*soutput \"%s\" %%%u\n", indent, "", g->outputs[i].name, (unsigned)g->outputs[i].value.id);
    for (uint32_t i = 0; i < g->n_taps; i++)
        heed__text_add(t, "%*stap \"%s\" %%%u\n", indent, "", g->taps[i].name, (unsigned)g->taps[i].value.id);
    for (uint32_t i = 0; i < g->n_assigns; i++)
        heed__text_add(t, "%*sassign %%%u %%%u\n", indent, "", (unsigned)g->assigns[i].state.id,
                       (unsigned)g->assigns[i].value.id);
}

/* Nodes of one scope stand in one box; an arrow is a value with its sizes. */
static void print_mermaid(text *t, const heed_graph *g)
{
    heed__text_add(t, "flowchart TD\n");
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const node *n = &g->nodes[i];
        const bool leaf = n->op->flags & OP_LEAF;

        if (n->op == &heed__op_constant)
            continue;
        heed__text_add(t, leaf ? "    n%u([\"%s %s\"])\n" : "    n%u[\"%s%s%s\"]\n", (unsigned)i, n->op->name,
                       leaf ? n->path : n->path[0] ? "<br/>" : "", leaf ? "" : n->path);
        for (int j = 0; j < n->n_in; j++)
            if (n->in[j].id && heed__maker(g, n->in[j])->op != &heed__op_constant) {
                heed__text_add(t, "    n%u -->|\"", (unsigned)g->values[n->in[j].id].node);
                print_type(t, &g->values[n->in[j].id].type);
                heed__text_add(t, "\"| n%u\n", (unsigned)i);
            }
    }
    for (uint32_t i = 0; i < g->n_outputs; i++)
        heed__text_add(t, "    n%u --> o%u{{\"%s\"}}\n", (unsigned)g->values[g->outputs[i].value.id].node, (unsigned)i,
                       g->outputs[i].name);
}

heed_status heed_graph_print(char **out, const heed_graph *g, heed_graph_form form, heed_error *err)
{
    heed_status st = HEED_OK;
    text t;
    char *done;

    heed__text_init(&t, g->ctx->heap, 0);
    if (form == HEED_GRAPH_SVG)
        st = heed__graph_draw(&t, g, err);
    else if (form == HEED_GRAPH_MERMAID)
        print_mermaid(&t, g);
    else
        print_text(&t, g, 0);
    if (st != HEED_OK) {
        heed__text_release(&t);
        return st;
    }
    done = heed__text_take(&t);
    if (!done) {
        heed__text_release(&t);
        return heed__fail_memory(err, 0);
    }
    *out = done;
    return HEED_OK;
}

void heed_text_free(heed_context *ctx, char *printed)
{
    heed__release(ctx->heap, printed);
}
