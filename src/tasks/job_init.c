/* What a training begins with besides its recipe's numbers: weights of another run, parameters that stay as
 * they are, weights of classes.
 *
 *   class c of n samples in k classes, n_c of them its own:  w_c = n / (k n_c)   as scikit-learn's "balanced"
 *
 * in the part that is trained on; a class without samples there weighs nothing. */

#include "tasks/job.h"
#include "base/text.h"
#include <heed/formats.h>
#include <heed/ops.h>

#include <string.h>

/* ---- weights to begin with ---- */

#define INIT_NAMES_BYTES 160

/* Names in a sentence: the first few, and how many there are. */
typedef struct name_list {
    text shown;
    int64_t n;
} name_list;

static void list_name(name_list *l, const char *name)
{
    char shown[200];

    if (l->n++ == 0 || l->shown.size < INIT_NAMES_BYTES)
        heed__text_add(&l->shown, "%s%s", l->n > 1 ? ", " : "", heed__shown(shown, name, strlen(name)));
}

typedef struct init_job {
    heed_safetensors *file;
    name_list missing, unexpected, mismatched, fresh;
} init_job;

/* The same but for the number of classes: the first size of the head. */
static bool init_other_head(const char *name, const heed_type *in_file, const heed_type *here)
{
    heed_type same = *in_file;

    if (strncmp(name, "head.", 5) != 0 || in_file->rank != here->rank || here->rank < 1)
        return false;
    same.dims[0] = here->dims[0];
    return heed_type_equal(&same, here);
}

/* Every name on both sides, before anything is read. */
static void init_compare(init_job *i, const heed_weights *w)
{
    for (int64_t k = 0; k < heed_weights_count(w); k++) {
        const char *name;
        const heed_tensor here = heed_weights_at(w, k, &name);
        const int64_t at = heed_weights_in_model(name) ? heed_safetensors_find(i->file, name) : -2;
        const heed_type type = at >= 0 ? heed_safetensors_type(i->file, at) : here.type;

        if (at == -1)
            list_name(&i->missing, name);
        else if (at >= 0 && !heed_type_equal(&type, &here.type))
            list_name(init_other_head(name, &type, &here.type) ? &i->fresh : &i->mismatched, name);
    }
    for (int64_t k = 0; k < heed_safetensors_count(i->file); k++) {
        const char *name = heed_safetensors_name(i->file, k);

        if (heed_weights_in_model(name) && heed_weights_find(w, name).type.rank < 0)
            list_name(&i->unexpected, name);
    }
}

static void init_say(text *t, const char *what, const name_list *l)
{
    if (l->n > 0)
        heed__text_add(t, "%s%s %s%s", t->size ? "; " : "", what, l->shown.data,
                       l->shown.size >= INIT_NAMES_BYTES ? " and more" : "");
}

static heed_status init_refuse(job *j, const init_job *i, const char *path)
{
    heed_status st;
    text t;

    if (!i->missing.n && !i->unexpected.n && !i->mismatched.n)
        return HEED_OK;
    heed__text_init(&t, j->ctx->heap, 0);
    init_say(&t, "missing in it:", &i->missing);
    init_say(&t, "unexpected:", &i->unexpected);
    init_say(&t, "of another type:", &i->mismatched);
    st = t.failed || i->missing.shown.failed || i->unexpected.shown.failed || i->mismatched.shown.failed
             ? heed__fail_memory(j->err, 0)
             : heed__fail_at(j->err, HEED_ERR_SHAPE, path,
                             "train.init: %s is not of this architecture, size of picture and widths: %s",
                             path, t.data);
    heed__text_release(&t);
    return st;
}

static heed_status init_note(job *j, const init_job *i, const char *path)
{
    heed_status st = HEED_OK;
    text t;

    if (i->fresh.shown.failed)
        return heed__fail_memory(j->err, 0);
    heed__text_init(&t, j->ctx->heap, 0);
    if (i->fresh.n)
        heed__text_add(&t, "weights from %s; its head is of other classes, so %s stay fresh", path,
                       i->fresh.shown.data);
    else
        heed__text_add(&t, "weights from %s, all of them", path);
    if (t.failed)
        st = heed__fail_memory(j->err, 0);
    else if (j->opts->notice)
        j->opts->notice(j->opts->user, t.data);
    heed__text_release(&t);
    return st;
}

static heed_status init_read(job *j, const init_job *i)
{
    const heed_weights *w = heed_model_weights(j->model);

    for (int64_t k = 0; k < heed_weights_count(w); k++) {
        const char *name;
        const heed_tensor here = heed_weights_at(w, k, &name);
        const int64_t at = heed_weights_in_model(name) ? heed_safetensors_find(i->file, name) : -1;
        const heed_type type = at >= 0 ? heed_safetensors_type(i->file, at) : here.type;

        if (at >= 0 && heed_type_equal(&type, &here.type))
            TRY(heed_safetensors_read(i->file, at, here.data, j->err));
    }
    return HEED_OK;
}

heed_status heed__job_init(job *j)
{
    const char *path = j->recipe->values->train.init;
    heap *h = j->ctx->heap;
    init_job i = { .file = NULL };
    heed_status st;

    if (!path || !path[0])
        return HEED_OK;
    if (heed__folder_exists(j->ctx, path))
        return heed__fail_at(j->err, HEED_ERR_IO, path,
                             "%s: this is a folder; weights are a file, of a run %s/" RUN_WEIGHTS, path, path);
    heed__text_init(&i.missing.shown, h, 0);
    heed__text_init(&i.unexpected.shown, h, 0);
    heed__text_init(&i.mismatched.shown, h, 0);
    heed__text_init(&i.fresh.shown, h, 0);
    STEP(heed_safetensors_open(&i.file, j->ctx, path, j->err));
    init_compare(&i, heed_model_weights(j->model));
    STEP(init_refuse(j, &i, path));
    STEP(init_read(j, &i));
    STEP(init_note(j, &i, path));
done:
    heed_safetensors_close(i.file);
    heed__text_release(&i.fresh.shown);
    heed__text_release(&i.mismatched.shown);
    heed__text_release(&i.unexpected.shown);
    heed__text_release(&i.missing.shown);
    return st;
}

/* ---- frozen parameters ---- */

heed_status heed__job_frozen(job *j, const char *const **out)
{
    const heed_weights *w = heed_model_weights(j->model);
    const char *const *words;
    int64_t n;

    TRY(heed__recipe_words(&words, &n, j->recipe, j->recipe->values->train.freeze, j->err));
    for (int64_t i = 0; i < n; i++) {
        bool found = false;

        for (int64_t k = 0; k < heed_weights_count(w) && !found; k++) {
            const char *name;

            (void)heed_weights_at(w, k, &name);
            found = heed_weights_in_model(name) && heed__name_matches(words[i], name);
        }
        if (!found)
            return heed__fail(
                j->err, HEED_ERR_USAGE,
                "train.freeze: no parameter is called \"%.60s\"; heed info RUN lists them, and a star ends a "
                "beginning, as in stem.*",
                words[i]);
    }
    *out = n ? words : NULL;
    return HEED_OK;
}

/* ---- weights of classes ---- */

typedef struct class_loss {
    heed_tensor weights; /* f32 [classes] */
    double smoothing;
} class_loss;

static heed_value weighted_loss(heed_builder *b, heed_value result, heed_value target, const void *config)
{
    const class_loss *c = config;

    return heed_cross_entropy(b, result, target,
                              &(heed_cross_entropy_opts){ .weight = heed_constant(b, c->weights),
                                                          .label_smoothing = c->smoothing });
}

heed_status heed__job_loss(job *j, heed_trainer_opts *opts)
{
    const recipe_train *t = &j->recipe->values->train;
    const int64_t classes = j->config.classes;
    class_loss *loss;
    int64_t *counts;
    float *weights;

    if (t->class_weights != CLASS_WEIGHTS_BALANCED)
        return HEED_OK;
    loss = heed__arena_alloc(&j->arena, 1, sizeof *loss);
    weights = heed__arena_alloc(&j->arena, (size_t)classes, sizeof *weights);
    counts = heed__arena_alloc(&j->arena, (size_t)classes, sizeof *counts);
    if (!loss || !weights || !counts)
        return heed__fail_memory(j->err, (uint64_t)classes * sizeof *counts);
    for (int64_t i = 0; i < j->n_train; i++)
        counts[heed_dataset_label(j->data, j->order[i])]++;
    for (int64_t c = 0; c < classes; c++)
        weights[c] = counts[c] ? (float)((double)j->n_train / ((double)classes * (double)counts[c])) : 0;
    *loss = (class_loss){ { heed_type_of(HEED_F32, 1, &classes), weights }, (double)t->label_smoothing };
    opts->loss = weighted_loss;
    opts->loss_config = loss;
    return HEED_OK;
}
