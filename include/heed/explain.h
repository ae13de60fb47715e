/* heed/explain.h: what a model attends to, drawn on its input, and how far to trust that picture.
 *
 * Attention weights are mixing weights, not causes. So every map comes with a deletion test: the parts it calls
 * important are removed first and the probability of the class is watched, against removal in random order. What a head
 * does is asked of the model itself: heed_ablate runs it without each. */
#ifndef HEED_EXPLAIN_H
#define HEED_EXPLAIN_H

#include <heed/model.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Where keys of an attention lie on the picture: keys [first, first + rows * cols) are cells, row by row; those
 * before are class tokens. Found from sizes: first is 0, 1 or 2, and rows x cols is the picture's size divided by one
 * whole step, both rounded down or both up. rows 0: no place on the picture. */
typedef struct heed_token_grid {
    int64_t first, rows, cols;
} heed_token_grid;

/** The weights of one attention of the model on this input, as the model computes them in evaluation. */
typedef struct heed_attention_record {
    const char *path; /**< scope of the attention: "block.0.self_attn", "pool" */
    int64_t heads, queries, keys;
    const float *weights;  /**< [heads, queries, keys], rows sum to one */
    const float *gradient; /**< d logit[target] / d weights, the same shape */
    heed_token_grid grid;
} heed_attention_record;

typedef enum heed_explain_method {
    HEED_EXPLAIN_RAW = 0,   /**< weights of one attention, mean over heads, of the query that is read (or all) */
    HEED_EXPLAIN_ROLLOUT,   /**< product over layers of rows of (A + I) / 2. Abnar, Zuidema 2020 */
    HEED_EXPLAIN_GRADIENT,  /**< product over layers of I + mean over heads of max(0, A * dA). Chefer 2021 */
    HEED_EXPLAIN_RECEIVED,  /**< what each key receives: mean over queries, heads and layers */
    HEED_EXPLAIN_OCCLUSION, /**< fall of the class's log probability when the cell is blanked: no attention in it */
    HEED_EXPLAIN_METHODS,   /**< of these a map is made */
    HEED_EXPLAIN_ABLATION = HEED_EXPLAIN_METHODS /**< no map: heads in the order of what the loss becomes without them */
} heed_explain_method;
/** "raw", "rollout", "gradient", "received", "occlusion", "ablation". */
HEED_API const char *heed_explain_method_name(heed_explain_method m);

typedef enum heed_verdict {
    HEED_FAITHFUL = 0,    /**< rank <= 0.05: area below that of at least 95 of 100 random orders */
    HEED_NO_BETTER,       /**< than random: do not trust the map. A map of zeros, too, and all of fewer than 19 orders */
    HEED_WORSE            /**< rank >= 0.95: it points away from what counts */
} heed_verdict;

/** The deletion test. Cells are replaced by the mean picture, most important first; probability[i] is that of the
 * target after share i / (points - 1) of the cells is gone. area: mean of the curve; low is good. */
typedef struct heed_faithfulness {
    int64_t points, orders;
    const float *probability;                        /**< [points] by the map */
    const float *random, *random_low, *random_high;  /**< [points] mean, 5th and 95th percentile of random orders */
    double area, random_area, random_std;
    double rank;       /**< share of random orders whose area is lower than the map's, an equal one counting one
                          half: 0 best, 1 worst */
    heed_verdict verdict;
} heed_faithfulness;

/** What one method says. */
typedef struct heed_saliency {
    heed_explain_method method;
    const char *about; /**< "pool, mean of 4 heads": which weights went in; for people */
    int64_t rows, cols;
    const float *map;  /**< [rows, cols], >= 0, sum one; all zero when the method finds nothing */
    heed_faithfulness faithful;
} heed_saliency;

/** What the loss becomes when one head's weights are zeroed, so that the head gives zeros. */
typedef struct heed_head_effect {
    const char *path;         /**< of its attention, as in heed_attention_record */
    int64_t attention, head;  /**< numbers: of the attention in the order of the model, of the head in it */
    double loss, effect;      /**< without the head; effect = that - the loss with all: above zero where the head helps */
} heed_head_effect;

/** Heads by their effect. The loss is cross-entropy, the mean over samples, in nats. It tells what this model does without
 * a head on these samples, others left as they are: two heads that do the same work have little effect each. */
typedef struct heed_ablation {
    int64_t samples, n;
    const int64_t *labels;         /**< [samples] the classes of the loss */
    double loss, loss_without_all; /**< with all heads; with none */
    const heed_head_effect *heads; /**< [n], the largest effect first; equal ones in the order of the model */
} heed_ablation;

/** Zeroes each head of each attention in turn, on x f32 [samples, ...] at once. labels [samples]; NULL: the class that the
 * model names for each sample. Edits of the model stay; one plan serves all heads, whose weights are multiplied by an input
 * of ones with one zero. Both losses are of that plan, so that an effect is exactly 0 where a head changes nothing. The
 * model must give f32 [samples, classes] (HEED_ERR_SPEC), and have attention (HEED_ERR_SPEC); HEED_ERR_USAGE for a label that
 * is no class, HEED_ERR_NUMERIC when its answer is not finite. *out is given back by heed_ablation_free. */
HEED_MUST_CHECK HEED_API heed_status heed_ablate(heed_ablation **out, heed_model *m, heed_tensor x, const int64_t *labels,
                                                 heed_error *err);
HEED_API void heed_ablation_free(heed_context *ctx, heed_ablation *a);

typedef struct heed_explanation {
    const char *input;         /**< name of what was explained */
    heed_tensor picture;       /**< u8 [C,H,W], as the model saw it, before normalisation */
    int64_t classes, target, predicted;
    int64_t truth;             /**< -1 when not known */
    const char *const *class_names; /**< [classes] */
    const float *probability;  /**< [classes] */
    int64_t n_attentions;
    const heed_attention_record *attentions; /**< in the order in which the model computes them */
    int n_maps;
    const heed_saliency *maps; /**< in the order asked for */
    const char *model;         /**< "conv-attention, runs/fa"; for people */
    const char *edit;          /**< what was edited in the model, all of it; "" for nothing */
    const char *const *edits;  /**< [n_edits] one by one, as heed_edit_print gives them */
    int n_edits;
    const heed_ablation *ablation; /**< NULL: not asked for. The loss is that of opts.target, else of the true class where
                                        it is known, else of the predicted one */
    struct heed_explanation_inside *inside;
} heed_explanation;

typedef struct heed_explain_opts {
    unsigned methods;        /**< bits 1u << HEED_EXPLAIN_...; 0: all maps */
    heed_maybe_i64 layer;    /**< number of an attention: RAW takes it, others go from the input to it; default the
                                  last that lies on the picture */
    heed_maybe_i64 head;     /**< only that head, of attentions that have several; default the mean */
    heed_maybe_i64 target;   /**< class explained; default the predicted one */
    int64_t orders;          /**< random orders of the deletion test; 0: 100. All maps share them: orders x (points - 2)
                                  runs of the model */
    int64_t points;          /**< of its curve; 0: 21. Never more than cells + 1 */
    uint64_t seed;           /**< of the random orders */
} heed_explain_opts;

/** What is explained: a picture as the model saw it and as it was. Names are copied. */
typedef struct heed_explain_input {
    heed_tensor x;           /**< f32 [1,C,H,W], normalised */
    heed_tensor picture;     /**< u8 [C,H,W]; data NULL: none to draw on */
    const float *blank;      /**< [C] value of a removed pixel after normalisation; NULL: 0, the mean */
    const char *name, *model;
    const char *const *class_names; /**< [classes]; NULL: numbers */
    heed_maybe_i64 truth;
} heed_explain_input;

/** Explains the model's output [1,classes] on one input, under the model's edits (heed_model_edit). Every attention op of the model is found by itself; the
 * model runs as it does in evaluation, so probability comes from the bits of heed_model_run. Methods take the
 * attentions whose keys lie on the same tokens as those of `layer`: square ones up to it, then itself; read by the
 * only query, the class token, or the mean over queries. The same bytes for any number of threads.
 *
 * HEED_ERR_SPEC when the model has no attention on the picture and a method needs one (occlusion needs none), or is no
 * classifier; HEED_ERR_USAGE for a layer, head or class that is not there; HEED_ERR_SHAPE for an input that is not one
 * picture; HEED_ERR_NUMERIC when the model's answer is not finite. *out is given back by heed_explanation_free. */
HEED_MUST_CHECK HEED_API heed_status heed_explain(heed_explanation **out, heed_model *m, const heed_explain_input *in,
                                                  const heed_explain_opts *opts, heed_error *err);
HEED_API void heed_explanation_free(heed_context *ctx, heed_explanation *e);

/* ---- drawing ---- */

typedef enum heed_explain_format {
    HEED_EXPLAIN_PNG = 0, /**< the maps over the picture, side by side */
    HEED_EXPLAIN_SVG,
    HEED_EXPLAIN_HTML,    /**< one self-contained page: grid of layers and heads, numbers, deletion curves */
    HEED_EXPLAIN_NPZ,     /**< an array for each attention under its path, f32 [1, heads, queries, keys]; of an edited
                               model HEED_NPZ_EDITS besides */
    HEED_EXPLAIN_JSON,
    HEED_EXPLAIN_FORMATS
} heed_explain_format;

/** Writes one file, atomically. HEED_ERR_MISSING names the package (libpng, libzip). The bytes depend on the
 * explanation only. */
HEED_MUST_CHECK HEED_API heed_status heed_explanation_write(heed_context *ctx, const heed_explanation *e,
                                                            heed_explain_format format, const char *path,
                                                            heed_error *err);
/** The explanation for a terminal: blocks in 256 colours (colour) or ASCII, at most `width` columns. Given back by
 * heed_text_free. */
typedef enum heed_terminal { HEED_TERMINAL_ASCII = 0, HEED_TERMINAL_256 } heed_terminal;
HEED_MUST_CHECK HEED_API heed_status heed_explanation_text(char **out, heed_context *ctx, const heed_explanation *e,
                                                           heed_terminal terminal, int width, heed_error *err);
/** The explanation as one JSON object. Given back by heed_text_free. */
HEED_MUST_CHECK HEED_API heed_status heed_explanation_json(char **out, heed_context *ctx, const heed_explanation *e,
                                                           heed_error *err);

#ifdef __cplusplus
}
#endif
#endif
