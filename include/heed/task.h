/* heed/task.h: recipes and runs: what the command does, as calls.
 *
 * A recipe (YAML) names data, model and training. A run is a folder: config.json, model.safetensors,
 * recipe.yaml, metrics.jsonl, preprocessor_config.json, README.md, and checkpoints, from which a training that was
 * interrupted goes on to the same bits. */
#ifndef HEED_TASK_H
#define HEED_TASK_H

#include <heed/doctor.h>
#include <heed/explain.h>
#include <heed/formats.h>
#include <heed/image.h>
#include <heed/metrics.h>
#include <heed/train.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct heed_recipe heed_recipe;

/** Reads a recipe; mistakes name file, line, column, key and the nearest valid name. overrides:
 * "train.epochs=3", or "HEED_SEED:train.seed=3" with the origin that heed_recipe_print shows instead of "--set"; ended
 *  by NULL. */
HEED_MUST_CHECK HEED_API heed_status heed_recipe_open(heed_recipe **out, heed_context *ctx, const char *path,
                                                      const char *const *overrides, heed_error *err);
/** The recipe that is built in for a task ("image-classification"), on the data in folder `data` (IDX files, or a
 * folder of pictures for each class). What neither it nor overrides say is chosen from the data: size and channels
 * of a picture, a model that fits, batch, rate and epochs; heed_recipe_print tells which. Reads the names in the
 * folder and at most 101 pictures. */
HEED_MUST_CHECK HEED_API heed_status heed_recipe_open_task(heed_recipe **out, heed_context *ctx, const char *task,
                                                           const char *data, const char *const *overrides,
                                                           heed_error *err);
HEED_API void heed_recipe_free(heed_recipe *r);
/** Every key with its value and where it came from (flag, file:line, default), as YAML. Given back by
 * heed_text_free. */
HEED_MUST_CHECK HEED_API heed_status heed_recipe_print(char **out, const heed_recipe *r, heed_error *err);
/** Value of a dotted key as text, "" for none; borrowed until the next call. */
HEED_API const char *heed_recipe_get(const heed_recipe *r, const char *key);

/** One key that a recipe may have, from the tables that read recipes. Texts live as long as the program. */
typedef struct heed_recipe_key {
    const char *group, *name;           /**< "train", "lr": the key is train.lr; group "" at the top */
    const char *kind;                   /**< "whole number", "number", "true or false", "text", "one of", "list" */
    const char *choices;                /**< one of: "sgd|adam"; else NULL */
    double min, max;                    /**< numbers: both ends allowed; equal: no bounds */
    const char *fallback;               /**< the default as text; NULL: 0, false, empty, or what doc says */
    const char *architecture, *model;   /**< of keys that only one architecture has: its name and what it is; else NULL */
    const char *doc;
} heed_recipe_key;
typedef void heed_recipe_key_fn(void *user, const heed_recipe_key *key);
/** Calls `each` for every key: top, data, train, then those of each architecture. */
HEED_API void heed_recipe_keys(heed_recipe_key_fn *each, void *user);

/** What training reports, on the training thread. Return true to stop: HEED_ERR_STOPPED after a
 * checkpoint was written. */
typedef struct heed_progress {
    int64_t epoch, epochs, step, steps, samples; /**< epoch from 1; step of the whole training from 1 */
    double loss;                                 /**< mean of the epoch so far */
    double lr, grad_norm, seconds, eta;
    double rate;                                 /**< samples a second */
    bool epoch_ended;
    double validation_loss, validation_accuracy; /**< when epoch_ended with a validation part; else -1 */
} heed_progress;
typedef bool heed_progress_fn(void *user, const heed_progress *p);

typedef struct heed_train_result {
    int64_t epochs, steps, parameters;
    double seconds, train_loss, validation_loss, validation_accuracy;
    int64_t best_epoch;       /**< whose validation was best; 0: there was none */
    int64_t weights_epoch;    /**< whose weights the run has: train.select; loss and accuracy above are theirs */
    double baseline_accuracy; /**< validation part, always naming the commonest class of training; or -1 */
    uint64_t peak_bytes;
    char sha256[65]; /**< of the weights: heed_weights_sha256 */
} heed_train_result;

typedef struct heed_train_opts {
    const char *out; /**< folder of the run */
    bool force;      /**< write over a run that is there, or over a training that was interrupted */
    bool resume;     /**< go on from the newest whole checkpoint in the folder */
    bool fresh;      /**< with resume: begin anew where no checkpoint can be used; over a run only with force */
    heed_progress_fn *progress;
    heed_read_fn *reading;  /**< while pictures are read, before the first step */
    heed_notice_fn *notice; /**< NULL: nobody hears of damaged checkpoints, pictures left out and their like */
    void *user;             /**< of all three */
    heed_profile *profile;  /**< records training steps and evaluations; NULL: nothing */
} heed_train_opts;

/** Trains the recipe and writes the run. The test part is never read. HEED_ERR_EXISTS when there is a run, or
 * a training that was interrupted, and no force; or when another training works in the folder.
 *
 * With resume, weights, moments, random numbers and metrics.jsonl (but for its times) become what they would be
 * without the interruption. HEED_ERR_IO when there is no checkpoint, HEED_ERR_SPEC when recipe, data or level are
 * others, which err names; a run that is finished is finished again. */
HEED_MUST_CHECK HEED_API heed_status heed_train(heed_train_result *out, heed_context *ctx,
                                                const heed_recipe *r, const heed_train_opts *opts,
                                                heed_error *err);

/** Path of the recipe of the training in `folder`, for resume. Given back by heed_text_free. HEED_ERR_IO when
 * there is none. */
HEED_MUST_CHECK HEED_API heed_status heed_train_recipe(char **out, heed_context *ctx, const char *folder,
                                                       heed_error *err);

/** A trained run. */
typedef struct heed_run heed_run;
HEED_MUST_CHECK HEED_API heed_status heed_run_open(heed_run **out, heed_context *ctx, const char *folder,
                                                   heed_error *err);
HEED_API void heed_run_free(heed_run *r);
HEED_API heed_context *heed_run_context(const heed_run *r);
HEED_API heed_model *heed_run_model(heed_run *r); /**< borrowed */
HEED_API const heed_recipe *heed_run_recipe(const heed_run *r);
HEED_API const char *heed_run_class(const heed_run *r, int64_t i); /**< name of class i; borrowed */
HEED_API int64_t heed_run_classes(const heed_run *r);
HEED_API heed_type heed_run_input_type(const heed_run *r, int64_t batch); /**< f32 [batch,C,H,W] */
HEED_API bool heed_run_mirrors(const heed_run *r); /**< was trained on mirrored pictures */

/** Edits of everything that the run computes from now on (texts of heed_edits_open, ended by NULL), in place of those before;
 * NULL: none. Their names are looked up at once. heed_model_edits and heed_model_edit_text of its model tell them. What is said
 * of the run as it was trained refuses while there are any, HEED_ERR_USAGE: self-test, doctor, report, curves. On failure
 * the run stays as it was. */
HEED_MUST_CHECK HEED_API heed_status heed_run_edit(heed_run *r, const char *const *texts, heed_error *err);

/** Runs the self-test that training wrote into config.json: HEED_SELF_TEST_NONE for runs without one. A recipe or a
 * normalisation that was changed after training, or a build that computes otherwise, is HEED_SELF_TEST_OTHER. */
HEED_MUST_CHECK HEED_API heed_status heed_run_self_test(heed_self_test_result *out, heed_run *r, heed_error *err);

/** Looks at the run with all rules of heed/doctor.h: model, self-test, metrics.jsonl, and the recipe's data with the
 * run's split. *missing is a sentence on what could not be looked at ("" when all could), given back by
 * heed_text_free; may be NULL. */
HEED_MUST_CHECK HEED_API heed_status heed_run_doctor(heed_diagnosis **out, char **missing, heed_run *r,
                                                     const heed_doctor_opts *opts, heed_error *err);

/** Evaluates on the run's test part, or on that of `data` (a folder) when given; out->part names it. Where training
 * mirrored pictures the mean over picture and mirror image is made as well. Classes that are not those of the run are
 * HEED_ERR_SHAPE with both lists. *out: heed_evaluation_release. */
HEED_MUST_CHECK HEED_API heed_status heed_run_evaluate(heed_evaluation *out, heed_run *r, const char *data,
                                                       heed_error *err);

/** Curves of each class against the others (heed_curve_make), from what heed_evaluation_tensors gives, into a folder that is
 * made when missing: roc.csv and pr.csv (class, x, y, threshold; a row for each point), roc.svg and pr.svg (of many classes
 * the ten with the smallest area). Each file is written atomically. */
HEED_MUST_CHECK HEED_API heed_status heed_run_curves(const heed_run *r, const char *folder, heed_tensor probability,
                                                     heed_tensor labels, heed_error *err);

typedef struct heed_report_opts {
    const char *data;            /**< folder whose test part is evaluated; NULL: the recipe's data */
    const char *const *compare;  /**< files of results (docs/results/NAME.json) to compare with, ended by NULL; those of
                                      RUN/compare are taken in any case. NULL: none */
    heed_maybe_i64 mistakes;     /**< wrongly named pictures that are shown; default 12 */
    heed_maybe_i64 explained;    /**< of them with maps of attention; default 6; none when the model has no attention */
    bool force;                  /**< overwrite a report that is there */
} heed_report_opts;
/** Evaluates the run's test part and writes one page: what was reached and against what, curves, classes, confusions, the
 * worst mistakes, model, data, recipe and how to repeat it. The page loads nothing. path NULL: RUN/report.html. Data
 * that are not there any more leave the evaluation out, and the page says so, unless opts->data names them.
 * HEED_ERR_EXISTS when there is such a file and no force. */
HEED_MUST_CHECK HEED_API heed_status heed_run_report(heed_run *r, const char *path, const heed_report_opts *opts,
                                                     heed_error *err);

/** Logits f32 [n, classes] of u8 pictures [n,H,W] or [n,C,H,W]; average: over picture and mirror (log of the
 * mean probability). */
HEED_MUST_CHECK HEED_API heed_status heed_run_predict(heed_run *r, heed_tensor pictures, heed_average average,
                                                      float *logits, heed_error *err);

/* ---- pictures to look at ---- */

/** Pictures for a run, one after the other: IDX files ("f.idx.gz[0:100]" takes some), picture files, folders (every
 * picture below, in bytewise order of names; hidden names are passed over). What a file is is known by its first bytes.
 * Each picture becomes what the run was trained on: its channels and its size, fitted as the run's data were. An IDX file
 * is in memory whole while it is read, of the others one picture at a time. */
typedef struct heed_inputs heed_inputs;
/** paths ended by NULL (copied), at least one; "-" is standard input read by the caller and not allowed here. skip_bad: so
 * many pictures that cannot be read are passed over (0: the first one is the error); a path that is given and is not there
 * is always an error, and so is an IDX file that breaks its rules. r is borrowed. */
HEED_MUST_CHECK HEED_API heed_status heed_inputs_open(heed_inputs **out, heed_run *r, const char *const *paths,
                                                      int64_t skip_bad, heed_error *err);
HEED_API void heed_inputs_close(heed_inputs *in);
/** Up to `most` pictures more: *pictures u8 [n,C,H,W], n 0 at the end; names[i] "cat.png" or "f.idx[7]". Borrowed
 * until the next call. HEED_ERR_FORMAT for a folder without a picture. */
HEED_MUST_CHECK HEED_API heed_status heed_inputs_next(heed_inputs *in, int64_t most, heed_tensor *pictures,
                                                      const char *const **names, heed_error *err);
/** Bad pictures passed over so far, and what was wrong with the last of them ("" for none). */
HEED_API int64_t heed_inputs_skipped(const heed_inputs *in);
HEED_API const char *heed_inputs_skipped_why(const heed_inputs *in);

/** f32 [n,C,H,W] of u8 [n,C,H,W], normalised as the run was trained; `to` has room for as many. */
HEED_API void heed_run_normalise(const heed_run *r, heed_tensor pictures, float *to);

/** Values inside the model that heed_tap names, over many pictures: "pool.weights", or "encoder.*" for all below. They
 * are kept in memory until they are written. While taps are open the model belongs to them. */
typedef struct heed_taps heed_taps;
/** patterns ended by NULL; each must name a tap (HEED_ERR_USAGE with the nearest one and those there are), and each tap must
 * be of the pictures (HEED_ERR_SPEC). most_bytes: of all that is kept; 0: 1 GiB. r is borrowed. */
HEED_MUST_CHECK HEED_API heed_status heed_taps_open(heed_taps **out, heed_run *r, const char *const *patterns,
                                                    uint64_t most_bytes, heed_error *err);
/** heed_run_predict of u8 [n,C,H,W] without mirror images, and the taps of these pictures behind those kept already.
 * HEED_ERR_LIMIT when they would take more than most_bytes. After a failure nothing more is kept than before. */
HEED_MUST_CHECK HEED_API heed_status heed_taps_predict(heed_taps *t, heed_tensor pictures, float *logits, heed_error *err);
/** Everything kept as one NPZ (heed_npz_write): an array for each tap under its name, [n, ...] in the order of the
 * pictures; what a tap has for each picture several times, heads for example, is [n, k, ...]. Of an edited run it has
 * HEED_NPZ_EDITS besides. */
HEED_MUST_CHECK HEED_API heed_status heed_taps_write(const heed_taps *t, const char *path, heed_error *err);
HEED_API int heed_taps_count(const heed_taps *t);
HEED_API const char *heed_taps_name(const heed_taps *t, int i);
HEED_API heed_type heed_taps_type(const heed_taps *t, int i); /**< of what is kept: [n, ...] */
HEED_API void heed_taps_close(heed_taps *t);

/** Explains the run's answer to picture u8 [C,H,W]. truth -1: not known. */
HEED_MUST_CHECK HEED_API heed_status heed_run_explain(heed_explanation **out, heed_run *r, heed_tensor picture,
                                                      const char *name, int64_t truth, const heed_explain_opts *opts,
                                                      heed_error *err);

#ifdef __cplusplus
}
#endif
#endif
