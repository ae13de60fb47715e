/* Recipes: YAML and overrides -> one list of (key, value, place) -> tables of fields.
 *
 * Which keys `model` may have depends on model.name, so that is looked for first; then every entry is set
 * through its row, and a mistake names file, line, column, key, rule and the nearest valid name. */

#include "tasks/recipe.h"
#include "base/digest.h"
#include "base/files.h"

#include <stdio.h>
#include <string.h>

#define PLACE_MOST 280

#define TASK_CHOICES "image-classification"
#define TASK_DOC "what is learned"
#define MODEL_NAME_DOC "architecture; it decides which further keys model has"

static const field data_rows[] = {
    { FIELD_(recipe_data, kind, FIELD_ENUM_), .choices = "auto|idx|folder",
      .doc = "format of the data: idx is a folder with the four MNIST-style files, folder one with a folder of "
             "pictures for each class; auto looks" },
    { FIELD_(recipe_data, path, FIELD_STRING_), .doc = "folder of the data" },
    { FIELD_(recipe_data, size, FIELD_STRING_),
      .doc = "side of a picture, or rows x columns as in 48x64; folders only. Default: the first of 32, 64, 96 that "
             "is not below the median shorter side of up to 101 pictures, else 96" },
    { FIELD_(recipe_data, channels, FIELD_ENUM_), .choices = "auto|1|3",
      .doc = "grey (1) or coloured (3); folders only. auto: 1 when the pictures looked at are all grey" },
    { FIELD_(recipe_data, fit, FIELD_ENUM_), .choices = "stretch|crop|pad",
      .doc = "how a picture of another shape fills the size: both sides scaled, the middle taken, or zeros added" },
    { FIELD_(recipe_data, classes, FIELD_STRING_),
      .doc = "names of the classes, in order of their numbers; of folders: which, default all by name" },
    { FIELD_(recipe_data, validation, FIELD_F64_), .min = 0, .max = 0.9, .fallback = "0.1",
      .doc = "share of the training part kept for validation, by digest of the picture" },
    { FIELD_(recipe_data, test, FIELD_F64_), .min = 0, .max = 0.9, .fallback = "0.1",
      .doc = "share kept for the test part by the same rule, when a folder of pictures has none of its own" },
    { FIELD_(recipe_data, skip_bad, FIELD_I64_), .min = 0, .max = 1e15,
      .doc = "so many pictures that cannot be read are passed over" },
    { FIELD_(recipe_data, limit, FIELD_I64_), .min = 0, .max = 1e15, .doc = "training samples used; 0: all" },
    { FIELD_(recipe_data, mirror, FIELD_BOOL_),
      .doc = "pictures mirrored left to right at random; evaluation then also averages over both" },
    { FIELD_(recipe_data, shift, FIELD_I64_), .min = 0, .max = 64,
      .doc = "pictures moved by up to so many pixels" },
    { FIELD_(recipe_data, crop, FIELD_F64_), .min = 0, .max = 1,
      .doc = "a part of the picture, at least this share of its area, is scaled up at random; 0: off" },
    { FIELD_(recipe_data, erase, FIELD_F64_), .min = 0, .max = 1,
      .doc = "probability that a rectangle of the picture is wiped out" },
    { FIELD_(recipe_data, mean, FIELD_MAYBE_F32_), .min = -1e6, .max = 1e6,
      .doc = "subtracted from pixel / 255; default: measured on the training part" },
    { FIELD_(recipe_data, std, FIELD_MAYBE_F32_), .min = 1e-6, .max = 1e6,
      .doc = "divides after that; default: measured on the training part" },
    FIELD_END,
};

static const field train_rows[] = {
    { FIELD_(recipe_train, epochs, FIELD_I64_), .min = 1, .max = 1e6, .fallback = "5",
      .doc = "passes over the training part" },
    { FIELD_(recipe_train, max_steps, FIELD_I64_), .min = 0, .max = 1e15,
      .doc = "ends training after so many steps; 0: no limit" },
    { FIELD_(recipe_train, batch_size, FIELD_I64_), .min = 1, .max = 1e6, .fallback = "32",
      .doc = "samples of a step" },
    { FIELD_(recipe_train, lr, FIELD_F64_), .min = 0, .max = 1e3, .fallback = "0.001",
      .doc = "largest learning rate" },
    { FIELD_(recipe_train, seed, FIELD_I64_), .min = 0, .max = 9e15,
      .doc = "of weights, order, augmentation and dropout" },
    { FIELD_(recipe_train, threads, FIELD_I64_), .min = 0, .max = 1024,
      .doc = "0: one for each CPU; the result does not depend on it" },
    { FIELD_(recipe_train, checkpoint_epochs, FIELD_I64_), .min = 0, .max = 1e6, .fallback = "1",
      .doc = "a checkpoint every so many epochs; 0: after the last one only" },
    { FIELD_(recipe_train, checkpoint_steps, FIELD_I64_), .min = 0, .max = 1e15,
      .doc = "and every so many steps; 0: no" },
    { FIELD_(recipe_train, checkpoint_minutes, FIELD_F64_), .min = 0, .max = 1e6,
      .doc = "and when so many minutes have passed since the last; 0: no" },
    { FIELD_(recipe_train, keep, FIELD_I64_), .min = 1, .max = 1e6, .fallback = "2",
      .doc = "checkpoints that are kept; older ones go when a new one is safe" },
    { FIELD_(recipe_train, select, FIELD_ENUM_), .choices = "best|last", .fallback = "best",
      .doc = "whose weights the run has: the epoch best on validation, or the last; without validation the last" },
    { FIELD_(recipe_train, monitor, FIELD_ENUM_), .choices = "val_accuracy|val_loss", .fallback = "val_accuracy",
      .doc = "what best, patience and plateau go by; of equal accuracies less loss is better" },
    { FIELD_(recipe_train, patience, FIELD_I64_), .min = 0, .max = 1e6,
      .doc = "ends training after so many epochs in a row that were not better; 0: never" },
    { FIELD_(recipe_train, ema, FIELD_F32_), .min = 0, .max = 0.9999999,
      .doc = "decay of a moving average of the weights, which is what is evaluated and kept; 0: none" },
    { FIELD_(recipe_train, tensorboard, FIELD_BOOL_), .fallback = "true",
      .doc = "event files in the run's folder for TensorBoard; needs protobuf-c" },
    { FIELD_(recipe_train, tensorboard_pictures, FIELD_I64_), .min = 0, .max = 1e6, .fallback = "5",
      .doc = "pictures of what each head attends to every so many epochs; 0: none" },
    { FIELD_(recipe_train, report, FIELD_BOOL_), .fallback = "true",
      .doc = "report.html of the validation part in the run's folder" },
    { FIELD_(recipe_train, optimizer, FIELD_ENUM_), .choices = "sgd|rmsprop|adam|adamw", .fallback = "adamw",
      .doc = "rule of a step" },
    { FIELD_(recipe_train, weight_decay, FIELD_MAYBE_F32_), .min = 0, .max = 100,
      .doc = "0; 0.01 for adamw" },
    { FIELD_(recipe_train, decay, FIELD_ENUM_), .choices = "all|matrices", .fallback = "all",
      .doc = "what decays: everything, or tensors of rank 2 and more" },
    { FIELD_(recipe_train, momentum, FIELD_MAYBE_F32_), .min = 0, .max = 1, .doc = "sgd and rmsprop: 0" },
    { FIELD_(recipe_train, nesterov, FIELD_BOOL_), .doc = "sgd with momentum" },
    { FIELD_(recipe_train, beta1, FIELD_MAYBE_F32_), .min = 0, .max = 0.9999999, .doc = "adam, adamw: 0.9" },
    { FIELD_(recipe_train, beta2, FIELD_MAYBE_F32_), .min = 0, .max = 0.9999999,
      .doc = "adam, adamw: 0.999" },
    { FIELD_(recipe_train, amsgrad, FIELD_BOOL_), .doc = "adam, adamw: the largest second moment so far" },
    { FIELD_(recipe_train, eps, FIELD_MAYBE_F32_), .min = 0, .max = 1, .doc = "adam, adamw, rmsprop: 1e-8" },
    { FIELD_(recipe_train, alpha, FIELD_MAYBE_F32_), .min = 0, .max = 1, .doc = "rmsprop: 0.99" },
    { FIELD_(recipe_train, schedule, FIELD_ENUM_), .fallback = "cosine",
      .choices = "constant|cosine|linear|step|plateau|one-cycle", .doc = "how the rate falls after the warm-up" },
    { FIELD_(recipe_train, warmup, FIELD_F64_), .min = 0, .max = 1,
      .doc = "share of all steps in which the rate rises; one-cycle: 0 stands for 0.3" },
    { FIELD_(recipe_train, step_every, FIELD_I64_), .min = 0, .max = 1e15,
      .doc = "schedule step: steps between two falls" },
    { FIELD_(recipe_train, step_gamma, FIELD_F64_), .min = 0, .max = 1, .fallback = "0.1",
      .doc = "schedule step: factor of a fall" },
    { FIELD_(recipe_train, plateau_factor, FIELD_F64_), .min = 0, .max = 1, .fallback = "0.1",
      .doc = "schedule plateau: factor of a fall" },
    { FIELD_(recipe_train, plateau_patience, FIELD_I64_), .min = 0, .max = 1e6, .fallback = "10",
      .doc = "schedule plateau: epochs in a row without a better one before it falls" },
    { FIELD_(recipe_train, plateau_threshold, FIELD_F64_), .min = 0, .max = 1, .fallback = "0.0001",
      .doc = "schedule plateau: share by which a better one is better" },
    { FIELD_(recipe_train, clip_norm, FIELD_F32_), .min = 0, .max = 1e9,
      .doc = "bound of the gradient's norm; 0: none" },
    { FIELD_(recipe_train, accumulate, FIELD_I64_), .min = 1, .max = 1e6, .fallback = "1",
      .doc = "batches whose gradients make one step" },
    { FIELD_(recipe_train, label_smoothing, FIELD_F32_), .min = 0, .max = 1, .doc = "of the cross-entropy" },
    { FIELD_(recipe_train, class_weights, FIELD_ENUM_), .choices = "none|balanced",
      .doc = "of the cross-entropy; balanced: samples / (classes * samples of the class)" },
    { FIELD_(recipe_train, init, FIELD_STRING_),
      .doc = "weights to begin with: a safetensors file of this architecture; a head of other classes stays fresh" },
    { FIELD_(recipe_train, freeze, FIELD_STRING_),
      .doc = "parameters left as they are: names, or beginnings as in stem.*, separated by commas" },
    FIELD_END,
};

/* ---- tables ---- */

static int count_rows(const field *rows)
{
    int n = 0;

    while (rows[n].kind != FIELD_END_)
        n++;
    return n;
}

/* The four groups; model's rows are the name and those of the architecture, moved behind recipe_values. */
static heed_status make_tables(heed_recipe *r, const heed_architecture *architecture, heed_error *err)
{
    const size_t behind = (sizeof(recipe_values) + 15) & ~(size_t)15;
    const int n = count_rows(architecture->fields);
    field *model = heed__arena_alloc(&r->arena, (size_t)n + 2, sizeof *model);

    r->values = heed__arena_alloc(&r->arena, 1, behind + architecture->config_size);
    r->rows = heed__arena_alloc(&r->arena, 5, sizeof *r->rows);
    if (!model || !r->values || !r->rows)
        return heed__fail_memory(err, behind + architecture->config_size);
    r->architecture = architecture;
    r->config = (char *)r->values + behind;
    model[0] = (field){ .name = "name",
                        .kind = FIELD_STRING_,
                        .offset = offsetof(recipe_values, model_name),
                        .doc = MODEL_NAME_DOC };
    for (int i = 0; i < n; i++) {
        model[i + 1] = architecture->fields[i];
        model[i + 1].offset += behind;
    }
    r->rows[0] = (field){ .name = "task",
                          .kind = FIELD_ENUM_,
                          .offset = offsetof(recipe_values, task),
                          .choices = TASK_CHOICES,
                          .doc = TASK_DOC };
    r->rows[1] = (field){
        .name = "data", .kind = FIELD_GROUP_, .offset = offsetof(recipe_values, data), .rows = data_rows
    };
    r->rows[2] = (field){ .name = "model", .kind = FIELD_GROUP_, .offset = 0, .rows = model };
    r->rows[3] = (field){
        .name = "train", .kind = FIELD_GROUP_, .offset = offsetof(recipe_values, train), .rows = train_rows
    };
    return heed__fields_default(r->rows, r->values, &r->arena, err);
}

static const yaml_entry *find_entry(const yaml_list *list, const char *key)
{
    for (int i = list->n; i-- > 0;)
        if (strcmp(list->entries[i].key, key) == 0)
            return &list->entries[i];
    return NULL;
}

/* The code of a mistake: of the file, or of the command. */
static heed_status bad_value(const yaml_entry *e)
{
    return e->line ? HEED_ERR_FORMAT : HEED_ERR_USAGE;
}

/* "recipe.yaml:3:1: " or "--set train.lr: "; of a long path the end. */
static const char *place_of(char place[PLACE_MOST], const heed_recipe *r, const yaml_entry *e, bool of_value)
{
    const size_t n = strlen(r->path), most = PLACE_MOST - 40;

    if (e->line == 0)
        (void)snprintf(place, PLACE_MOST, "%.20s %.64s: ", e->origin, e->key);
    else
        (void)snprintf(place, PLACE_MOST, "%s%s:%d:%d: ", n > most ? "..." : "",
                       n > most ? r->path + n - most : r->path, of_value ? e->value_line : e->line,
                       of_value ? e->value_column : e->column);
    return place;
}

/* "mlp, cnn, ..." into t. */
static void list_architectures(text *t)
{
    for (const heed_architecture *const *a = heed__architectures; *a; a++)
        heed__text_add(t, "%s%s", a == heed__architectures ? "" : ", ", (*a)->name);
}

static heed_status no_architecture(heed_recipe *r, const yaml_entry *e, heed_error *err)
{
    const char *names[64], *near;
    char shown[200], place[PLACE_MOST];
    int n = 0;

    for (const heed_architecture *const *a = heed__architectures; *a && n < 63; a++)
        names[n++] = (*a)->name;
    names[n] = NULL;
    heed__text_clear(&r->shown);
    list_architectures(&r->shown);
    if (r->shown.failed)
        return heed__fail_memory(err, 0);
    if (!e)
        return heed__fail_at(err, HEED_ERR_FORMAT, r->path, "%s: model.name is missing; it is one of %s",
                             r->path, r->shown.data);
    near = heed__nearest(e->value, names);
    heed__shown(shown, e->value, strlen(e->value));
    if (near)
        return heed__fail_at(err, bad_value(e), r->path,
                             "%smodel.name: there is no architecture \"%s\"; did you mean \"%s\"?",
                             place_of(place, r, e, true), shown, near);
    return heed__fail_at(err, bad_value(e), r->path,
                         "%smodel.name: there is no architecture \"%s\"; it is one of %s",
                         place_of(place, r, e, true), shown, r->shown.data);
}

static heed_status pick_architecture(heed_recipe *r, heed_error *err)
{
    const yaml_entry *e = find_entry(&r->given, "model.name");
    const heed_architecture *found = e ? heed__architecture(e->value) : NULL;

    return found ? make_tables(r, found, err) : no_architecture(r, e, err);
}

/* The last word of a dotted key, when what comes before it is the same in `other`; else all of it. */
static const char *leaf_of(const char *key, const char *other)
{
    const char *dot = strrchr(key, '.');

    return dot && strncmp(key, other, (size_t)(dot - key) + 1) == 0 ? dot + 1 : key;
}

/* In a file the group of a key stands above it: only the last word is shown, unless it is another one. */
static heed_status unknown_key(heed_recipe *r, const yaml_entry *e, const char *near, heed_error *err)
{
    const char *key =
        e->line && (!near[0] || leaf_of(near, e->key) != near) ? leaf_of(e->key, e->key) : e->key;
    char shown[200], place[PLACE_MOST];

    heed__shown(shown, key, strlen(key));
    if (!near[0])
        return heed__fail_at(err, bad_value(e), r->path, "%sunknown key \"%s\"", place_of(place, r, e, false),
                             shown);
    return heed__fail_at(err, bad_value(e), r->path, "%sunknown key \"%s\"; did you mean \"%s\"?",
                         place_of(place, r, e, false), shown, e->line ? leaf_of(near, e->key) : near);
}

static heed_status set_entry(heed_recipe *r, const yaml_entry *e, heed_error *err)
{
    void *object = r->values;
    char near[64] = "", shown[200], place[PLACE_MOST];
    heed_error why = { 0 };
    const field *row = heed__field_find(r->rows, e->key, &object, near);

    if (!row)
        return unknown_key(r, e, near, err);
    if (row->kind == FIELD_GROUP_)
        return heed__fail_at(err, bad_value(e), r->path,
                             "%s\"%s\" is a group of keys and has no value of its own",
                             place_of(place, r, e, false), heed__shown(shown, e->key, strlen(e->key)));
    if (heed__field_set(row, object, e->value, &r->arena, e->key, &why) == HEED_OK)
        return HEED_OK;
    return heed__fail_at(err, why.code == HEED_ERR_MEMORY ? why.code : bad_value(e), r->path, "%s%s",
                         place_of(place, r, e, true), why.text);
}

static heed_status put_entry(heed_recipe *r, const yaml_entry *e, heed_error *err)
{
    for (int i = 0; i < r->given.n; i++)
        if (strcmp(r->given.entries[i].key, e->key) == 0) {
            r->given.entries[i] = *e;
            return HEED_OK;
        }
    return heed__yaml_add(&r->given, &r->arena, e, err);
}

/* "train.epochs=3" replaces what the file says; "HEED_SEED:train.seed=3" tells where it came from. */
static heed_status add_override(heed_recipe *r, const char *given, heed_error *err)
{
    const char *equals = strchr(given, '='), *colon = strchr(given, ':');
    yaml_entry e = { .origin = "--set" };
    char *key;

    if (colon && equals && colon < equals) {
        char *origin = heed__arena_copy(&r->arena, given, (size_t)(colon - given) + 1);

        if (!origin)
            return heed__fail_memory(err, strlen(given));
        origin[colon - given] = '\0';
        e.origin = origin;
        given = colon + 1;
    }
    if (!equals || equals == given)
        return heed__fail(err, HEED_ERR_USAGE,
                          "--set takes key=value, as in train.epochs=3; \"%.60s\" is not that", given);
    key = heed__arena_copy(&r->arena, given, (size_t)(equals - given) + 1);
    e.value = heed__arena_string(&r->arena, equals + 1);
    if (!key || !e.value)
        return heed__fail_memory(err, strlen(given));
    key[equals - given] = '\0';
    e.key = key;
    return put_entry(r, &e, err);
}

static heed_status set_data(heed_recipe *r, const char *data, heed_error *err)
{
    const yaml_entry e = { .key = "data.path", .value = heed__arena_string(&r->arena, data), .origin = "--data" };

    return e.value ? put_entry(r, &e, err) : heed__fail_memory(err, strlen(data));
}

/* "64" or "48x64": true with both numbers, 1 to 65535. */
static bool read_size(const char *at, int64_t *height, int64_t *width)
{
    int64_t sides[2] = { 0, 0 };
    int n = 0;

    for (; at && *at && n < 2; n++) {
        for (; *at >= '0' && *at <= '9' && sides[n] <= 65535; at++)
            sides[n] = 10 * sides[n] + (*at - '0');
        if (sides[n] < 1 || sides[n] > 65535)
            return false;
        if (*at && (n == 1 || *at++ != 'x' || !*at))
            return false;
    }
    *height = sides[0];
    *width = n == 2 ? sides[1] : sides[0];
    return n > 0;
}

void heed__recipe_size(const heed_recipe *r, int64_t *height, int64_t *width)
{
    *height = *width = 0;
    (void)read_size(r->values->data.size, height, width); /* checked when the recipe was read */
}

int64_t heed__recipe_channels(const heed_recipe *r)
{
    static const int64_t channels[] = { 0, 1, 3 };

    return channels[r->values->data.channels];
}

static heed_status check_size(heed_recipe *r, heed_error *err)
{
    const yaml_entry *e = find_entry(&r->given, "data.size");
    char shown[200], place[PLACE_MOST];
    int64_t height, width;

    if (!e || !r->values->data.size || !r->values->data.size[0] || read_size(r->values->data.size, &height, &width))
        return HEED_OK;
    return heed__fail_at(err, bad_value(e), r->path,
                         "%sdata.size: \"%s\" is no size; it is a side, as in 64, or rows x columns, as in 48x64",
                         place_of(place, r, e, true), heed__shown(shown, e->value, strlen(e->value)));
}

heed_status heed__recipe_choose(heed_recipe *r, const char *key, const char *value, const char *origin,
                                heed_error *err)
{
    const yaml_entry e = { .key = heed__arena_string(&r->arena, key),
                           .value = heed__arena_string(&r->arena, value),
                           .origin = heed__arena_string(&r->arena, origin) };

    if (!e.key || !e.value || !e.origin)
        return heed__fail_memory(err, 0);
    if (heed__recipe_gives(r, key))
        return HEED_OK;
    TRY(set_entry(r, &e, err));
    return heed__yaml_add(&r->given, &r->arena, &e, err);
}

bool heed__recipe_gives(const heed_recipe *r, const char *key)
{
    return find_entry(&r->given, key) != NULL;
}

heed_status heed__recipe_open_bytes(heed_recipe **out, heed_context *ctx, const char *name, const void *bytes,
                                    size_t size, const char *const *overrides, const char *data, heed_error *err)
{
    heed_recipe *r = heed__alloc(ctx->heap, 1, sizeof *r);
    heed_status st;

    if (!r)
        return heed__fail_memory(err, sizeof *r);
    r->ctx = ctx;
    heed__arena_init(&r->arena, ctx->heap);
    heed__text_init(&r->shown, ctx->heap, 0);
    r->path = heed__arena_string(&r->arena, name);
    if (!r->path) {
        st = heed__fail_memory(err, strlen(name));
        goto done;
    }
    STEP(heed__yaml_flatten(&r->given, ctx, &r->arena, r->path, bytes, size, err));
    if (data)
        STEP(set_data(r, data, err));
    for (; overrides && *overrides; overrides++)
        STEP(add_override(r, *overrides, err));
    STEP(pick_architecture(r, err));
    for (int i = 0; i < r->given.n; i++)
        STEP(set_entry(r, &r->given.entries[i], err));
    STEP(check_size(r, err));
    if (!r->values->data.path || !r->values->data.path[0]) {
        st = heed__fail_at(err, HEED_ERR_FORMAT, r->path, "%s: data.path is missing: the folder of the data",
                           r->path);
        goto done;
    }
    *out = r;
    r = NULL;
done:
    heed_recipe_free(r);
    return st;
}

heed_status heed_recipe_open(heed_recipe **out, heed_context *ctx, const char *path,
                             const char *const *overrides, heed_error *err)
{
    file_bytes file = { 0 };
    heed_status st;

    if (heed__folder_exists(ctx, path))
        return heed__fail_at(err, HEED_ERR_IO, path,
                             "%s: this is a folder, and a recipe is a YAML file; to train on pictures in it: "
                             "heed train --task image-classification --data %s",
                             path, path);
    TRY(heed__file_read(&file, ctx, path, ctx->limits.yaml_bytes, err));
    st = heed__recipe_open_bytes(out, ctx, path, file.data, file.size, overrides, NULL, err);
    heed__release(ctx->heap, file.data);
    return st;
}

void heed_recipe_free(heed_recipe *r)
{
    heap *h;

    if (!r)
        return;
    h = r->ctx->heap;
    heed__text_release(&r->shown);
    heed__arena_release(&r->arena);
    heed__release(h, r);
}

/* ---- showing ---- */

/* The name of the file as a YAML comment can hold it: what would end the line, or is no text, becomes '?'. */
static void print_path(text *t, const char *path)
{
    size_t left = strlen(path);

    while (left > 0) {
        const unsigned char *b = (const unsigned char *)path;
        const size_t n = heed__utf8_length(path, left);
        const bool control = n == 1 ? b[0] < 0x20 || b[0] == 0x7f : n == 2 && b[0] == 0xc2 && b[1] < 0xa0;
        const bool line_end = n == 3 && b[0] == 0xe2 && b[1] == 0x80 && (b[2] == 0xa8 || b[2] == 0xa9);

        if (n == 0 || control || line_end)
            heed__text_put(t, "?", 1);
        else
            heed__text_put(t, path, n);
        path += n ? n : 1;
        left -= n ? n : 1;
    }
}

static void print_origin(text *t, const heed_recipe *r, const char *key)
{
    const yaml_entry *e = find_entry(&r->given, key);

    heed__text_add(t, "  # ");
    if (!e || e->line == 0) {
        heed__text_add(t, "%s\n", e ? e->origin : "default");
        return;
    }
    print_path(t, r->path);
    heed__text_add(t, ":%d\n", e->line);
}

static const char *kind_name(field_kind kind)
{
    static const char *const names[] = {
        [FIELD_INT_] = "whole number",   [FIELD_I64_] = "whole number",
        [FIELD_F32_] = "number",         [FIELD_F64_] = "number",
        [FIELD_BOOL_] = "true or false", [FIELD_ENUM_] = "one of",
        [FIELD_FLAGS_] = "some of",      [FIELD_STRING_] = "text",
        [FIELD_I64S_] = "list",          [FIELD_MAYBE_I64_] = "whole number",
        [FIELD_MAYBE_F32_] = "number",
    };

    return (size_t)kind < sizeof names / sizeof *names && names[kind] ? names[kind] : "";
}

static void tell_rows(const field *rows, const char *group, const heed_architecture *a,
                      heed_recipe_key_fn *each, void *user)
{
    for (const field *row = rows; row->kind != FIELD_END_; row++)
        each(user, &(heed_recipe_key){ .group = group,
                                       .name = row->name,
                                       .kind = kind_name(row->kind),
                                       .choices = row->choices,
                                       .min = row->min,
                                       .max = row->max,
                                       .fallback = row->fallback,
                                       .doc = row->doc,
                                       .architecture = a ? a->name : NULL,
                                       .model = a ? a->doc : NULL });
}

void heed_recipe_keys(heed_recipe_key_fn *each, void *user)
{
    each(user, &(heed_recipe_key){
                   .group = "", .name = "task", .kind = "one of", .choices = TASK_CHOICES, .doc = TASK_DOC });
    tell_rows(data_rows, "data", NULL, each, user);
    tell_rows(train_rows, "train", NULL, each, user);
    each(user, &(heed_recipe_key){ .group = "model", .name = "name", .kind = "text", .doc = MODEL_NAME_DOC });
    for (const heed_architecture *const *a = heed__architectures; *a; a++)
        tell_rows((*a)->fields, "model", *a, each, user);
}

/* A value that YAML would read as something else stands in quotes. */
static void print_value(text *t, const field *row, const void *object)
{
    text value;

    heed__text_init(&value, t->heap, 0);
    heed__field_print(&value, row, object);
    if (row->kind == FIELD_STRING_ || value.size == 0)
        heed__text_json(t, value.data, value.size);
    else if (row->kind == FIELD_I64S_)
        heed__text_add(t, "[%s]", value.data);
    else
        heed__text_add(t, "%s", value.data);
    if (value.failed)
        t->failed = value.failed;
    heed__text_release(&value);
}

/* Numbers whose default is another's business. */
static bool unset(const field *row, const void *object)
{
    const void *at = (const char *)object + row->offset;

    return (row->kind == FIELD_MAYBE_F32_ && !((const heed_maybe_f32 *)at)->set) ||
           (row->kind == FIELD_MAYBE_I64_ && !((const heed_maybe_i64 *)at)->set);
}

static void print_group(const heed_recipe *r, text *t, const field *rows, const void *object,
                        const char *group)
{
    const int indent = group[0] ? 2 : 0; /* groups are one level deep */
    char key[64];

    for (const field *row = rows; row->kind != FIELD_END_; row++) {
        if (unset(row, object))
            continue;
        heed__text_add(t, "%*s%s:", indent, "", row->name);
        if (row->kind == FIELD_GROUP_) {
            heed__text_add(t, "\n");
            print_group(r, t, row->rows, (const char *)object + row->offset, row->name);
            continue;
        }
        (void)snprintf(key, sizeof key, "%s%s%s", group, group[0] ? "." : "", row->name);
        heed__text_add(t, " ");
        print_value(t, row, object);
        print_origin(t, r, key);
    }
}

heed_status heed_recipe_print(char **out, const heed_recipe *r, heed_error *err)
{
    char *done;
    text t;

    heed__text_init(&t, r->ctx->heap, 0);
    print_group(r, &t, r->rows, r->values, "");
    done = heed__text_take(&t);
    if (!done) {
        heed__text_release(&t);
        return heed__fail_memory(err, 0);
    }
    *out = done;
    return HEED_OK;
}

const char *heed_recipe_get(const heed_recipe *r, const char *key)
{
    heed_recipe *open = (heed_recipe *)(uintptr_t)r;
    void *object = r->values;
    const field *row = heed__field_find(r->rows, key, &object, NULL);

    heed__text_clear(&open->shown);
    if (row && row->kind != FIELD_GROUP_)
        heed__field_print(&open->shown, row, object);
    return open->shown.data;
}

/* ---- comparing ---- */

/* What decides where and how often something is written, and how fast, but no weight. */
static bool idle_key(const char *key)
{
    static const char *const keys[] = { "data.path", "train.threads", "train.checkpoint_epochs",
                                        "train.checkpoint_steps", "train.checkpoint_minutes", "train.keep",
                                        "train.tensorboard", "train.tensorboard_pictures", "train.report" };

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(keys[i], key) == 0)
            return true;
    return false;
}

typedef void key_fn(void *to, const char *key, const field *row, const void *object);

static void each_key(const field *rows, const void *object, const char *group, key_fn *each, void *to)
{
    char key[64];

    for (const field *row = rows; row->kind != FIELD_END_; row++) {
        if (row->kind == FIELD_GROUP_) {
            each_key(row->rows, (const char *)object + row->offset, row->name, each, to);
            continue;
        }
        (void)snprintf(key, sizeof key, "%s%s%s", group, group[0] ? "." : "", row->name);
        if (!idle_key(key))
            each(to, key, row, object);
    }
}

static void list_key(void *to, const char *key, const field *row, const void *object)
{
    text *t = to;

    heed__text_add(t, "%s=", key);
    heed__field_print(t, row, object);
    heed__text_put(t, "", 1); /* no value can hold the end of one */
}

heed_status heed__recipe_digest(const heed_recipe *r, char out[65], heed_error *err)
{
    uint8_t digest[32];
    heed_status st = HEED_OK;
    sha256 sum;
    text t;

    heed__text_init(&t, r->ctx->heap, 0);
    each_key(r->rows, r->values, "", list_key, &t);
    if (t.failed) {
        st = heed__fail_memory(err, t.size);
    } else {
        heed__sha256_init(&sum);
        heed__sha256_add(&sum, t.data, t.size);
        heed__sha256_end(&sum, digest);
        heed__hex(out, digest, sizeof digest);
    }
    heed__text_release(&t);
    return st;
}

typedef struct key_difference {
    const heed_recipe *then;
    text now, before;
    char key[64];
} key_difference;

static void compare_key(void *to, const char *key, const field *row, const void *object)
{
    key_difference *d = to;
    void *other = d->then->values;
    const field *found = heed__field_find(d->then->rows, key, &other, NULL);

    if (d->key[0])
        return;
    heed__text_clear(&d->now);
    heed__text_clear(&d->before);
    heed__field_print(&d->now, row, object);
    if (found)
        heed__field_print(&d->before, found, other);
    if (d->now.failed || d->before.failed || !found || strcmp(d->now.data, d->before.data) != 0)
        (void)snprintf(d->key, sizeof d->key, "%s", key);
}

heed_status heed__recipe_same(const heed_recipe *now, const heed_recipe *then, heed_error *err)
{
    key_difference d = { .then = then };
    heed_status st = HEED_OK;

    heed__text_init(&d.now, now->ctx->heap, 0);
    heed__text_init(&d.before, now->ctx->heap, 0);
    each_key(now->rows, now->values, "", compare_key, &d);
    if (d.now.failed || d.before.failed)
        st = heed__fail_memory(err, 0);
    else if (d.key[0])
        st = heed__fail_at(err, HEED_ERR_SPEC, now->path,
                           "%s is \"%.100s\" here and \"%.100s\" in the training that is to go on: that would be "
                           "another one; leave the recipe out, or begin anew with --force",
                           d.key, d.now.data, d.before.data);
    heed__text_release(&d.now);
    heed__text_release(&d.before);
    return st;
}

heed_status heed__recipe_set_classes(heed_recipe *r, int64_t classes, heed_error *err)
{
    void *object = r->config;
    const field *row = heed__field_find(r->architecture->fields, "classes", &object, NULL);
    const char *number = heed__arena_format(&r->arena, "%lld", (long long)classes);

    if (!row)
        return HEED_OK;
    if (!number)
        return heed__fail_memory(err, 0);
    return heed__field_set(row, object, number, &r->arena, "model.classes", err);
}
