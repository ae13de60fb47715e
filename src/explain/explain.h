/* An explanation under way, as its files share it: records.c asks the model for its attentions, methods.c
 * makes maps of them, blank.c runs the model with parts of the picture gone, faithful.c tests a map by that,
 * and explain.c goes through all of it. */
#ifndef EXPLAIN_EXPLAIN_H
#define EXPLAIN_EXPLAIN_H

#include "base/arena.h"
#include "graph/graph.h"
#include <heed/explain.h>

/* ---- records.c ---- */

/* What the model computed on one input. Lists lie in the arena. */
typedef struct records {
    heed_context *ctx;
    heed_model *model;
    const heed_tensor *x; /* f32 [1,C,H,W] */
    arena *arena;
    heed_graph *graph; /* owns: evaluation, edited; its outputs are the result, then the weights of each attention */
    heed_attention_record *list;
    int64_t n, classes;
    float *logits; /* [classes], the bits of heed_model_run */
} records;

/* Runs the model and takes logits and weights. Released in any case. */
heed_status heed__records_take(records *r, heed_model *m, const heed_tensor *x, arena *a, heed_error *err);
/* Adds d logit[target] / d weights to every record. */
heed_status heed__records_gradient(records *r, int64_t target, heed_error *err);
void heed__records_release(records *r);

/* Name of the attention that node `index` is; NULL without memory. */
const char *heed__attention_path(arena *a, const heed_graph *g, uint32_t index);

/* Where `keys` tokens lie on a picture; rows 0 when they do not. */
heed_token_grid heed__token_grid(int64_t keys, int64_t height, int64_t width);

/* ---- blank.c ---- */

/* Copies of one picture with cells blanked, run in batches of one shape, so that one plan serves. Cell (r,
 * c) of rows x cols has the pixels from r H / rows to (r + 1) H / rows, rounded down, and likewise across. */
typedef struct blanks {
    heap *heap;
    heed_model *model;
    const float *picture, *value; /* value NULL: zeros */
    int64_t channels, height, width, rows, cols, target;
    heed_tensor x, logits; /* a batch; owns data */
    double **to;           /* by place in the batch: where the log probability goes */
    double *row;           /* [classes] */
    int64_t batch, filled;
} blanks;

heed_status heed__blanks_open(blanks *b, heed_model *m, const heed_explain_input *in,
                              const heed_token_grid *grid, int64_t classes, int64_t target, heed_error *err);
/* Asks for ln p(target) of the picture without cells[0 .. n). Written at the next end or earlier. */
heed_status heed__blanks_add(blanks *b, const uint32_t *cells, int64_t n, double *log_probability,
                             heed_error *err);
heed_status heed__blanks_end(blanks *b, heed_error *err);
void heed__blanks_release(blanks *b);

/* ---- the whole ---- */

typedef struct explaining {
    heed_context *ctx;
    arena *arena; /* of the explanation: all that stays */
    const heed_attention_record *attentions;
    int64_t n_attentions, last; /* the attention that is read; -1: none lies on the picture */
    heed_token_grid grid;       /* of every map; rows and cols at least 1 */
    heed_explain_opts opts;     /* defaults filled in */
    double log_probability;     /* of the target, nothing removed */
    blanks blanks;
    /* faithful.c: random orders, the same for all maps */
    heed_faithfulness random;
    double *random_areas; /* [orders] */
    double log_empty;     /* of the target, everything removed */
} explaining;

/* ---- methods.c ---- */

typedef enum explain_needs { NEEDS_NOTHING = 0, NEEDS_ATTENTION } explain_needs;

typedef struct explain_method {
    const char *name;
    explain_needs needs;
    /* Fills map [cells], all >= 0, of any sum. */
    heed_status (*compute)(explaining *x, double *map, heed_error *err);
    /* Which weights went in, in the arena; NULL without memory. */
    const char *(*about)(explaining *x);
} explain_method;
extern const explain_method heed__explain_methods[HEED_EXPLAIN_METHODS];

/* The map of one method, sum one. */
heed_status heed__saliency(heed_saliency *out, explaining *x, heed_explain_method method, heed_error *err);

/* ---- faithful.c ---- */

/* Curves of random orders, once for all maps; then the deletion test of one map. */
heed_status heed__faithful_random(explaining *x, heed_error *err);
heed_status heed__faithful(heed_saliency *s, explaining *x, heed_error *err);

#endif
