/* An explanation as one JSON object, without line ends. Weights are nested as [1][heads][queries][keys],
 * the shape in which attention is exchanged. */
#include "explain/draw.h"

#include <string.h>

static void json_string(text *t, const char *words)
{
    heed__text_json(t, words, strlen(words));
}

static void json_floats(text *t, const float *x, int64_t n)
{
    heed__text_put(t, "[", 1);
    for (int64_t i = 0; i < n && !t->failed; i++) {
        if (i)
            heed__text_put(t, ",", 1);
        heed__text_float(t, x[i]);
    }
    heed__text_put(t, "]", 1);
}

/* Row-major x of these sizes, as lists in lists. */
static void json_nested(text *t, const float *x, const int64_t *dims, int rank)
{
    int64_t step = 1;

    if (rank == 1) {
        json_floats(t, x, dims[0]);
        return;
    }
    for (int i = 1; i < rank; i++)
        step *= dims[i];
    heed__text_put(t, "[", 1);
    for (int64_t i = 0; i < dims[0] && !t->failed; i++) {
        if (i)
            heed__text_put(t, ",", 1);
        json_nested(t, x + i * step, dims + 1, rank - 1);
    }
    heed__text_put(t, "]", 1);
}

static void json_class(text *t, const heed_explanation *e, const char *key, int64_t i)
{
    heed__text_add(t, ",\"%s\":{\"label\":%lld,\"class\":", key, (long long)i);
    json_string(t, heed__class_name(e, i));
    if (i >= 0 && i < e->classes) {
        heed__text_add(t, ",\"probability\":");
        heed__text_float(t, e->probability[i]);
    }
    heed__text_put(t, "}", 1);
}

static void json_number(text *t, const char *key, double value)
{
    heed__text_add(t, ",\"%s\":", key);
    heed__text_number(t, value);
}

static void json_curve(text *t, const char *key, const float *x, int64_t n)
{
    heed__text_add(t, ",\"%s\":", key);
    json_floats(t, x, n);
}

static void json_map(text *t, const heed_saliency *s)
{
    const heed_faithfulness *f = &s->faithful;

    heed__text_add(t, "{\"method\":");
    json_string(t, heed_explain_method_name(s->method));
    heed__text_add(t, ",\"about\":");
    json_string(t, s->about);
    heed__text_add(t, ",\"rows\":%lld,\"cols\":%lld,\"map\":", (long long)s->rows, (long long)s->cols);
    json_nested(t, s->map, (const int64_t[]){ s->rows, s->cols }, 2);
    heed__text_add(t, ",\"deletion\":{\"verdict\":\"%s\"", heed__verdict_words(f->verdict)->name);
    json_number(t, "area", f->area);
    json_number(t, "random_area", f->random_area);
    json_number(t, "random_std", f->random_std);
    json_number(t, "rank", f->rank);
    heed__text_add(t, ",\"orders\":%lld", (long long)f->orders);
    json_curve(t, "probability", f->probability, f->points);
    json_curve(t, "random", f->random, f->points);
    json_curve(t, "random_low", f->random_low, f->points);
    json_curve(t, "random_high", f->random_high, f->points);
    heed__text_put(t, "}}", 2);
}

static void json_attention(text *t, const heed_attention_record *a)
{
    heed__text_add(t, "{\"path\":");
    json_string(t, a->path);
    heed__text_add(
        t,
        ",\"heads\":%lld,\"queries\":%lld,\"keys\":%lld,"
        "\"grid\":{\"first\":%lld,\"rows\":%lld,\"cols\":%lld}",
        (long long)a->heads, (long long)a->queries, (long long)a->keys, (long long)a->grid.first,
        (long long)a->grid.rows, (long long)a->grid.cols);
    heed__text_add(t, ",\"weights\":");
    json_nested(t, a->weights, (const int64_t[]){ 1, a->heads, a->queries, a->keys }, 4);
    heed__text_put(t, "}", 1);
}

/* Nothing of a model as it is: so readers of older files need not know the key. */
static void json_edits(text *t, const heed_explanation *e)
{
    for (int i = 0; i < e->n_edits; i++) {
        heed__text_add(t, i ? "," : ",\"edits\":[");
        json_string(t, e->edits[i]);
    }
    if (e->n_edits > 0)
        heed__text_put(t, "]", 1);
}

static void json_ablation(text *t, const heed_explanation *e)
{
    const heed_ablation *a = e->ablation;

    heed__text_add(t, ",\"ablation\":{\"label\":%lld,\"class\":", (long long)a->labels[0]);
    json_string(t, heed__class_name(e, a->labels[0]));
    json_number(t, "loss", a->loss);
    json_number(t, "loss_without_all", a->loss_without_all);
    heed__text_add(t, ",\"heads\":[");
    for (int64_t i = 0; i < a->n; i++) {
        heed__text_add(t, i ? ",{\"path\":" : "{\"path\":");
        json_string(t, a->heads[i].path);
        heed__text_add(t, ",\"head\":%lld", (long long)a->heads[i].head);
        json_number(t, "loss", a->heads[i].loss);
        json_number(t, "effect", a->heads[i].effect);
        heed__text_put(t, "}", 1);
    }
    heed__text_put(t, "]}", 2);
}

void heed__draw_json(text *t, const heed_explanation *e)
{
    heed__text_add(t, "{\"input\":");
    json_string(t, e->input);
    heed__text_add(t, ",\"model\":");
    json_string(t, e->model);
    json_edits(t, e);
    json_class(t, e, "predicted", e->predicted);
    json_class(t, e, "target", e->target);
    if (e->truth >= 0)
        json_class(t, e, "truth", e->truth);
    heed__text_add(t, ",\"classes\":[");
    for (int64_t i = 0; i < e->classes; i++) {
        if (i)
            heed__text_put(t, ",", 1);
        json_string(t, e->class_names[i]);
    }
    heed__text_add(t, "],\"probability\":");
    json_floats(t, e->probability, e->classes);
    heed__text_add(t, ",\"note\":");
    json_string(t, DRAW_NOTE);
    heed__text_add(t, ",\"verdict\":");
    json_string(t, heed__verdict_on_all(e));
    heed__text_add(t, ",\"maps\":[");
    for (int i = 0; i < e->n_maps; i++) {
        if (i)
            heed__text_put(t, ",", 1);
        json_map(t, &e->maps[i]);
    }
    heed__text_put(t, "]", 1);
    if (e->ablation)
        json_ablation(t, e);
    heed__text_add(t, ",\"attentions\":[");
    for (int64_t i = 0; i < e->n_attentions; i++) {
        if (i)
            heed__text_put(t, ",", 1);
        json_attention(t, &e->attentions[i]);
    }
    heed__text_put(t, "]}", 2);
}
