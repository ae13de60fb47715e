/* heed/attend.h: the attention operator on given tensors: what `heed attend` does. A descriptor comes as JSON, tensors come
 * under their reserved names, and everything the operator tells comes back under its own.
 *
 *   heed_attend *a;
 *   heed_attend_open(&a, ctx, "in.safetensors", &err);        or heed_attend_new, then heed_attend_type "q", "k", "v"
 *   heed_attend_build(a, &(heed_attend_opts){ .grad = true }, &err);
 *   heed_attend_run(a, &err);
 *   heed_attend_write(a, "out.safetensors", &err);
 *   heed_attend_free(a);
 *
 * Reserved names of inputs: q, k, v, every member of heed_attention_spec.in but rng, and the upstream gradients dout, dweights,
 * dlse. Names of results: out, lse, lse2, weights, d_NAME for the gradient by the input NAME, probe_rows, probe_topk_values,
 * probe_topk_indices, probe_pooled, probe_received, probe_entropy, probe_distance, probe_mean. */
#ifndef HEED_ATTEND_H
#define HEED_ATTEND_H

#include <heed/attention.h>
#include <heed/session.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the descriptor as text ---- */

/** What a JSON text says: a descriptor without tensors, and the numbers that stand in the tensor `rng` = {seed, step}. */
typedef struct heed_attention_text {
    heed_attention_spec spec;
    int64_t seed, step;
} heed_attention_text;

/** Reads a JSON object like {"score":{"kind":"additive"},"mask":{"causal":true}}; every field is optional and one that is
 *  not there is as in a zeroed descriptor. `json` ends with a zero byte. Integers are read exactly. The result is given back by
 *  heed_attention_text_free. HEED_ERR_SPEC for an unknown field or kind (the nearest valid one is named), a value of the wrong
 *  sort or out of range; HEED_ERR_FORMAT for what is no JSON; HEED_ERR_MISSING without jansson. Whether fields may stand
 *  together is heed_attention's to say. */
HEED_MUST_CHECK HEED_API heed_status heed_attention_text_read(heed_attention_text **out, heed_context *ctx, const char *json,
                                                              heed_error *err);
/** NULL is fine. */
HEED_API void heed_attention_text_free(heed_context *ctx, heed_attention_text *t);

/** A field of that object, by its dotted name; NULL ends the list. `value` says what it holds: "number", "true or false". */
typedef struct heed_attention_field {
    const char *name, *value, *doc;
} heed_attention_field;
HEED_API heed_attention_field heed_attention_field_at(int i);

/* ---- inputs ---- */

typedef struct heed_attend heed_attend;

/** One without tensors; those of a safetensors file, with its metadata. One thread at a time. Expected results in the file are
 *  kept apart, for heed_attend_compare. A tensor of an unknown name is refused when it is built (HEED_ERR_SPEC). */
HEED_MUST_CHECK HEED_API heed_status heed_attend_new(heed_attend **out, heed_context *ctx, heed_error *err);
HEED_MUST_CHECK HEED_API heed_status heed_attend_open(heed_attend **out, heed_context *ctx, const char *path, heed_error *err);
HEED_API void heed_attend_free(heed_attend *a);

/** Adds a copy of a tensor under its reserved name, in place of one of that name: then what is built stays when the types are the
 *  same, and is forgotten otherwise. */
HEED_MUST_CHECK HEED_API heed_status heed_attend_add(heed_attend *a, const char *name, heed_tensor tensor, heed_error *err);

/** Adds "q", "k" or "v" from what somebody typed: JSON, or the path of a file that ends in .npy, .csv or .json. [1,2,3] are
 *  three rows of one number, [[..],..] is [T,D]; three and four levels add heads and sequences. A CSV file is [T,D]. What
 *  is typed is computed in f64. HEED_ERR_FORMAT for lists of unequal lengths and anything that is no number. */
HEED_MUST_CHECK HEED_API heed_status heed_attend_type(heed_attend *a, const char *name, const char *text, heed_error *err);

/** The file's metadata: is the descriptor meant to be refused, why, and what the case is about ("" where it does not say). */
HEED_API bool heed_attend_refusal_expected(const heed_attend *a, const char **reason);
HEED_API const char *heed_attend_note(const heed_attend *a);

/* ---- computing ---- */

typedef enum heed_attend_kernel {
    HEED_ATTEND_AUTO = 0,
    HEED_ATTEND_REFERENCE, /**< the composition by primitives, for every part */
    HEED_ATTEND_STREAMING  /**< fused kernels, or HEED_ERR_MISSING with what they do not serve */
} heed_attend_kernel;

typedef struct heed_attend_opts {
    const char *spec;  /**< JSON, or a file of it; NULL: the metadata's "spec", else {} */
    const char *probe; /**< "entropy,received,topk:8,rows:0+5,heads:1,pooled:16x16,distance,lse,mean" in place of the
                            descriptor's probes; "none": no probe; NULL: the descriptor's */
    heed_attend_kernel kernel;
    bool weights;      /**< ask for them */
    bool grad;         /**< d_NAME for every differentiable input; needs dout, dweights or dlse */
    bool expected;     /**< ask for what the file has an expectation for, and for nothing else */
} heed_attend_opts;

/** Builds and plans, in place of an earlier plan. HEED_ERR_SPEC, _SHAPE, _DTYPE for what is refused; HEED_ERR_MISSING. */
HEED_MUST_CHECK HEED_API heed_status heed_attend_build(heed_attend *a, const heed_attend_opts *opts, heed_error *err);

/** Computes. HEED_ERR_LIMIT, HEED_ERR_SPEC for bad lengths, indices and learned numbers. */
HEED_MUST_CHECK HEED_API heed_status heed_attend_run(heed_attend *a, heed_error *err);

/** Results, in the order written; data are those of the last run, borrowed. */
HEED_API int heed_attend_results(const heed_attend *a);
HEED_API const char *heed_attend_result(const heed_attend *a, int i, heed_tensor *tensor);

/** All results as a safetensors file, atomically; the descriptor stands in its metadata as "spec". */
HEED_MUST_CHECK HEED_API heed_status heed_attend_write(const heed_attend *a, const char *path, heed_error *err);

/* ---- expectations ---- */

/** A result held against the expected one: every element must satisfy
 *  |got - want| <= atol max(1, max |want| over the finite ones) + rtol |want|, and -inf must be -inf. */
typedef struct heed_attend_line {
    const char *name;
    heed_type type;      /**< of the expectation */
    double worst, share; /**< largest |got - want|; its largest share of what is allowed */
    bool ok;
    const char *why; /**< what is wrong where it is no number: "shape", "not finite"; "" */
} heed_attend_line;

/** Expectations of the file, and one of them after a run. */
HEED_API int heed_attend_expected(const heed_attend *a);
HEED_API heed_attend_line heed_attend_compare(const heed_attend *a, int i);

/* ---- stages ---- */

/** One of the thirteen steps of heed/attention.h, after it: scores and weights are [B,Hq,Tq,Tk], out is [B,Hq,Tq,Dv]. */
typedef struct heed_attend_stage {
    int number;                 /**< 1 .. 13 */
    const char *name, *formula; /**< "z", "s / temperature" */
    bool used;                  /**< false: the descriptor does nothing here, and the values are those before */
    int64_t dims[4];
    const double *values; /**< borrowed until the next build */
} heed_attend_stage;

/** Computes every step in plain loops and double precision, apart from any kernel and graph: to look at small examples, and to
 *  hold kernels against. After a run. HEED_ERR_LIMIT beyond 2^20 scores. */
HEED_MUST_CHECK HEED_API heed_status heed_attend_stages(heed_attend *a, heed_error *err);
/** Step 1 .. 13 after that; number 0 for linear attention's missing scores and anything else. */
HEED_API heed_attend_stage heed_attend_stage_at(const heed_attend *a, int number);
/** What the masks keep [B,Hq,Tq,Tk], and the logarithms of the denominators [B,Hq,Tq], NULL where not defined (second: of q2). */
HEED_API const bool *heed_attend_kept(const heed_attend *a);
HEED_API const double *heed_attend_log_sums(const heed_attend *a, int second);

/** One page, alone in its file, that steps through them with the run's numbers: keys, light and dark, English and 中文. After a run.
 *  HEED_ERR_LIMIT for more than 4096 scores. */
HEED_MUST_CHECK HEED_API heed_status heed_attend_page(heed_attend *a, const char *path, heed_error *err);

/* ---- the plan ---- */

/** A part of the operator: attention, its gradient, its second pass, unless the gradient gives what that would. Texts are
 *  borrowed. */
typedef struct heed_attend_part {
    const char *op;
    const char *kernel;      /**< "reference" for the composition */
    const char *passed_over; /**< faster kernels, each with what it does not serve; "" for none */
    const char *gives;       /**< of the gradient: probes that it gives besides, "pooled, received"; "" for none */
    double flops;            /**< that the formulas need; a multiply-add counts 2 */
} heed_attend_part;

typedef struct heed_attend_cost {
    int parts;
    int64_t tiles, kept;  /**< tiles of 128 queries by 64 keys over all heads, and those in which some pair is kept */
    double flops;         /**< of one run */
    uint64_t bytes;       /**< read and written by all steps, each input and output once */
    uint64_t block_bytes; /**< memory besides inputs and results */
    int steps;
} heed_attend_cost;

/** After heed_attend_build. HEED_ERR_LIMIT for a graph that is no rising CSR. */
HEED_MUST_CHECK HEED_API heed_status heed_attend_cost_of(const heed_attend *a, heed_attend_cost *out, heed_error *err);
HEED_API heed_attend_part heed_attend_part_at(const heed_attend *a, int i);

#ifdef __cplusplus
}
#endif
#endif
