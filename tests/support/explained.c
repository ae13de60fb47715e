/* Hand-made explanations: see the header. Everything is a formula, so that golden texts hold. */
#include "support/explained.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct explained {
    heed_explanation e;
    void *blocks[64];
    int n;
} explained;

static void *block(explained *x, size_t n, size_t size)
{
    return x->blocks[x->n++] = calloc(n + 1, size);
}

/* A bag: a box with a handle, brighter to the right. */
static uint8_t bag(int64_t x, int64_t y)
{
    const double dx = (double)x - 13.5, dy = (double)y - 9, ring = sqrt(dx * dx + dy * dy);

    if (y >= 11 && y < 24 && x >= 4 && x < 24)
        return (uint8_t)(90 + 5 * x + (y % 4 == 0 ? 30 : 0));
    return y < 11 && ring > 5.2 && ring < 7.4 ? 200 : 0;
}

static void put_picture(explained *x, int64_t channels)
{
    uint8_t *p = block(x, (size_t)(channels * 28 * 28), 1);

    for (int64_t c = 0; c < channels; c++)
        for (int64_t i = 0; i < 28 * 28; i++)
            p[c * 784 + i] = (uint8_t)(bag(i % 28, i / 28) * (channels == 1 ? 4 : 4 - c) / 4);
    x->e.picture = (heed_tensor){ HEED_TYPE(HEED_U8, channels, 28, 28), p };
}

static double bump(int64_t x, int64_t y, double cx, double cy, double width)
{
    const double d = ((double)x - cx) * ((double)x - cx) + ((double)y - cy) * ((double)y - cy);

    return exp(-d / width);
}

/* Heads that look near the query, at the handle, everywhere, and to the lower right. */
static double score(int64_t head, int64_t query, int64_t key, heed_token_grid g)
{
    const int64_t k = key - g.first, q = query - g.first, cols = g.cols ? g.cols : 1;

    if (k < 0)
        return 0.3;
    if (head % 4 == 0 && q >= 0)
        return 0.01 + bump(k % cols, k / cols, (double)(q % cols), (double)(q / cols), 1.5);
    if (head % 4 == 1)
        return 0.02 + bump(k % cols, k / cols, 3, 1, 2);
    if (head % 4 == 2)
        return 1 + 0.2 * sin((double)(k + query));
    return 0.01 + bump(k % cols, k / cols, 5, 4, 3);
}

static heed_attention_record attention(explained *x, const char *path, int64_t heads, int64_t queries,
                                       int64_t keys, heed_token_grid grid)
{
    float *w = block(x, (size_t)(heads * queries * keys), sizeof *w);

    for (int64_t r = 0; r < heads * queries; r++) {
        double sum = 0;

        for (int64_t k = 0; k < keys; k++)
            sum += score(r / queries, r % queries, k, grid);
        for (int64_t k = 0; k < keys; k++)
            w[r * keys + k] = (float)(score(r / queries, r % queries, k, grid) / sum);
    }
    return (heed_attention_record){ path, heads, queries, keys, w, w, grid };
}

#define POINTS 21
static void put_curves(explained *x, heed_faithfulness *f, double speed, heed_verdict verdict)
{
    float *p = block(x, 4 * POINTS, sizeof *p);

    *f = (heed_faithfulness){ .points = POINTS,
                              .orders = 100,
                              .probability = p,
                              .random = p + POINTS,
                              .random_low = p + 2 * POINTS,
                              .random_high = p + 3 * POINTS,
                              .verdict = verdict };
    for (int i = 0; i < POINTS; i++) {
        const double at = (double)i / (POINTS - 1), random = 0.05 + 0.57 / (1 + exp(9 * (at - 0.5)));

        p[i] = (float)(0.05 + 0.57 / (1 + exp(9 * (at - speed))));
        p[POINTS + i] = (float)random;
        p[2 * POINTS + i] = (float)(random - 0.1 * random * sin(3 * at));
        p[3 * POINTS + i] = (float)(random + 0.1 * random * sin(3 * at));
        f->area += (double)p[i] / POINTS;
        f->random_area += random / POINTS;
    }
    f->random_std = 0.021;
    f->rank = verdict == HEED_FAITHFUL ? 0.01 : verdict == HEED_NO_BETTER ? 0.43 : 0.98;
}

static void put_map(explained *x, heed_saliency *s, heed_explain_method method, const char *about,
                    heed_verdict verdict)
{
    static const double centre[HEED_EXPLAIN_METHODS][2] = {
        { 3, 1 }, { 4, 3 }, { 5, 4 }, { 1, 6 }, { 3, 2 }
    };
    float *m = block(x, 49, sizeof *m);
    double sum = 0;

    for (int64_t i = 0; i < 49; i++)
        sum += 0.05 + bump(i % 7, i / 7, centre[method][0], centre[method][1], 3);
    for (int64_t i = 0; i < 49; i++)
        m[i] = (float)((0.05 + bump(i % 7, i / 7, centre[method][0], centre[method][1], 3)) / sum);
    *s = (heed_saliency){ .method = method, .about = about, .rows = 7, .cols = 7, .map = m };
    put_curves(x, &s->faithful,
               verdict == HEED_FAITHFUL ? 0.25
               : verdict == HEED_WORSE  ? 0.8
                                        : 0.48,
               verdict);
}

static const char *const fashion[10] = { "T-shirt", "Trouser", "Pullover", "Dress", "Coat",
                                         "Sandal",  "Shirt",   "Sneaker",  "Bag",   "Ankle boot" };
static const char *const hostile[10] = { "<script>alert(1)</script>",
                                         "\"><img src=x onerror=alert(2)>",
                                         "</script><b>",
                                         "\033[31mred\033[2J",
                                         "a\nb",
                                         "\xff\xfe",
                                         "\xe5\x8c\x85\xe5\x8c\x85",
                                         "&amp;",
                                         "{0}",
                                         "]]>" };

static void put_classes(explained *x, const char *const *names)
{
    static const float p[10] = {
        0.011F, 0.004F, 0.023F, 0.052F, 0.02F, 0.006F, 0.121F, 0.003F, 0.62F, 0.14F
    };

    x->e.classes = 10;
    x->e.class_names = names;
    x->e.probability = p;
    x->e.predicted = x->e.target = 8;
    x->e.truth = 6;
}

/* The first attention's heads in the order 0, 1, .. with falling effects; those of the second help nothing. */
static const heed_ablation *put_ablation(explained *x, const heed_attention_record *a)
{
    heed_ablation *to = block(x, 1, sizeof *to);
    heed_head_effect *heads = block(x, 24, sizeof *heads);
    int64_t *label = block(x, 1, sizeof *label);

    *label = 3;
    *to = (heed_ablation){ 1, 24, label, 0.25, 2.5, heads };
    for (int i = 0; i < 24; i++) {
        heads[i] = (heed_head_effect){ a[i / 12].path, i / 12, i % 12, 0.25, 1.5 - i * 0.0625 };
        heads[i].effect = i < 12 ? heads[i].effect : 0.0625 * (12 - i);
        heads[i].loss += heads[i].effect;
    }
    return to;
}

heed_explanation *explained_new(explained_kind kind)
{
    static const heed_verdict mixed[HEED_EXPLAIN_METHODS] = { HEED_NO_BETTER, HEED_FAITHFUL, HEED_FAITHFUL,
                                                              HEED_WORSE, HEED_FAITHFUL };
    static const char *const about[HEED_EXPLAIN_METHODS] = {
        "block.1.self_attn, mean of 4 heads, read by the class token",
        "block.0.self_attn, mean of 4 heads; block.1.self_attn, mean of 4 heads, read by the class token",
        "block.0.self_attn, head 2 of 4; block.1.self_attn, head 2 of 4, read by the class token",
        "block.0.self_attn, mean of 4 heads; block.1.self_attn, mean of 4 heads, mean over queries",
        "each of 7 x 7 cells blanked"
    };
    const heed_token_grid vit = { 1, 7, 7 }, pool = { 0, 7, 7 }, none = { 0, 0, 0 };
    explained *x = calloc(1, sizeof *x);
    heed_explanation *e = &x->e;
    heed_attention_record *a = block(x, 4, sizeof *a);
    heed_saliency *maps = block(x, HEED_EXPLAIN_METHODS, sizeof *maps);

    *e = (heed_explanation){ .input = "t10k-images-idx3-ubyte.gz[7]",
                             .attentions = a,
                             .maps = maps,
                             .model = "vit, runs/fashion-vit",
                             .edit = "" };
    put_classes(x, kind == EXPLAINED_HOSTILE ? hostile : fashion);
    e->n_maps = kind == EXPLAINED_PLAIN ? 1 : HEED_EXPLAIN_METHODS;
    for (int i = 0; i < e->n_maps; i++)
        put_map(x, &maps[i], (heed_explain_method)i, about[i],
                kind == EXPLAINED_POOL && i != HEED_EXPLAIN_OCCLUSION ? HEED_NO_BETTER : mixed[i]);
    if (kind != EXPLAINED_PLAIN)
        put_picture(x, kind == EXPLAINED_HOSTILE ? 3 : 1);
    if (kind == EXPLAINED_VIT || kind == EXPLAINED_HOSTILE) {
        e->n_attentions = 2;
        a[0] = attention(x, kind == EXPLAINED_VIT ? "block.0.self_attn" : "</td><script>x", 4, 50, 50, vit);
        a[1] = attention(x, "block.1.self_attn", 4, 50, 50, vit);
        e->ablation = put_ablation(x, a);
    } else if (kind == EXPLAINED_POOL) {
        e->n_attentions = 1;
        e->model = "conv-attention, runs/fa";
        e->truth = 8;
        a[0] = attention(x, "pool", 4, 1, 49, pool);
    } else if (kind == EXPLAINED_LARGE) {
        e->n_attentions = 2;
        a[0] = attention(x, "encoder.0", 2, 700, 700, none);
        a[1] = attention(x, "pool", 1, 1, 49, pool);
    } else {
        memset((void *)(uintptr_t)maps[0].map, 0, 49 * sizeof(float));
        e->truth = -1;
    }
    if (kind == EXPLAINED_HOSTILE) {
        e->input = "<script>alert(3)</script>\"'.png";
        e->model = "--><script>alert(4)</script>";
        static const char *const edits[] = { "block.0 <i>:head=1:zero" };

        e->edit = edits[0];
        e->edits = edits;
        e->n_edits = 1;
    }
    return e;
}

void explained_free(heed_explanation *e)
{
    explained *x = (explained *)(void *)e;

    for (int i = 0; x && i < x->n; i++)
        free(x->blocks[i]);
    free(x);
}
