/* Recipes: YAML and overrides -> one list of (key, value, place) -> tables of fields.
 *
 * Which keys `model` may have depends on model.name, so that is looked for first; then every entry is set
 * through its row, and a mistake names file, line, column, key, rule and the nearest valid name. */

#include "tasks/recipe.h"
#include "base/files.h"

#include <string.h>

#define TASK_CHOICES "image-classification"
#define TASK_DOC "what is learned"
#define MODEL_NAME_DOC "architecture; it decides which further keys model has"

static const field data_rows[] = {
    { FIELD_(recipe_data, kind, FIELD_ENUM_), .choices = "idx",
      .doc = "format of the data: idx is a folder with the four MNIST-style files" },
    { FIELD_(recipe_data, path, FIELD_STRING_), .doc = "folder of the data" },
    { FIELD_(recipe_data, classes, FIELD_STRING_), .doc = "names of the classes, in order of their numbers" },
    { FIELD_(recipe_data, validation, FIELD_F64_), .min = 0, .max = 0.9, .fallback = "0.1",
      .doc = "share of the training part kept for validation, by digest of the picture" },
    { FIELD_(recipe_data, limit, FIELD_I64_), .min = 0, .max = 1e15, .doc = "training samples used; 0: all" },
    { FIELD_(recipe_data, mirror, FIELD_BOOL_),
      .doc = "pictures mirrored left to right at random; evaluation then also averages over both" },
    { FIELD_(recipe_data, shift, FIELD_I64_), .min = 0, .max = 64,
      .doc = "pictures moved by up to so many pixels" },
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
    { FIELD_(recipe_train, checkpoint_steps, FIELD_I64_), .min = 0, .max = 1e15,
      .doc = "writes the weights every so many steps; 0: at the end only" },
    { FIELD_(recipe_train, optimizer, FIELD_ENUM_), .choices = "sgd|rmsprop|adam|adamw", .fallback = "adamw",
      .doc = "rule of a step" },
    { FIELD_(recipe_train, weight_decay, FIELD_MAYBE_F32_), .min = 0, .max = 100,
      .doc = "0; 0.01 for adamw" },
    { FIELD_(recipe_train, decay, FIELD_ENUM_), .choices = "all|matrices", .fallback = "all",
      .doc = "what decays: everything, or tensors of rank 2 and more" },
    { FIELD_(recipe_train, momentum, FIELD_MAYBE_F32_), .min = 0, .max = 1, .doc = "sgd and rmsprop: 0" },
    { FIELD_(recipe_train, nesterov, FIELD_BOOL_), .doc = "sgd with momentum" },
    { FIELD_(recipe_train, beta1, FIELD_MAYBE_F32_), .min = 0, .max = 1, .doc = "adam, adamw: 0.9" },
    { FIELD_(recipe_train, beta2, FIELD_MAYBE_F32_), .min = 0, .max = 1, .doc = "adam, adamw: 0.999" },
    { FIELD_(recipe_train, amsgrad, FIELD_BOOL_), .doc = "adam, adamw: the largest second moment so far" },
    { FIELD_(recipe_train, eps, FIELD_MAYBE_F32_), .min = 0, .max = 1, .doc = "adam, adamw, rmsprop: 1e-8" },
    { FIELD_(recipe_train, alpha, FIELD_MAYBE_F32_), .min = 0, .max = 1, .doc = "rmsprop: 0.99" },
    { FIELD_(recipe_train, schedule, FIELD_ENUM_), .choices = "constant|cosine|linear|step",
      .fallback = "cosine", .doc = "how the rate falls after the warm-up" },
    { FIELD_(recipe_train, warmup, FIELD_F64_), .min = 0, .max = 1,
      .doc = "share of all steps in which the rate rises" },
    { FIELD_(recipe_train, step_every, FIELD_I64_), .min = 0, .max = 1e15,
      .doc = "schedule step: steps between two falls" },
    { FIELD_(recipe_train, step_gamma, FIELD_F64_), .min = 0, .max = 1, .fallback = "0.1",
      .doc = "schedule step: factor of a fall" },
    { FIELD_(recipe_train, clip_norm, FIELD_F32_), .min = 0, .max = 1e9,
      .doc = "bound of the gradient's norm; 0: none" },
    { FIELD_(recipe_train, accumulate, FIELD_I64_), .min = 1, .max = 1e6, .fallback = "1",
      .doc = "batches whose gradients make one step" },
    { FIELD_(recipe_train, label_smoothing, FIELD_F32_), .min = 0, .max = 1, .doc = "of the cross-entropy" },
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
    model[0] = (field){ .name = "name", .kind = FIELD_STRING_, .offset = offsetof(recipe_values, model_name),
                        .doc = MODEL_NAME_DOC };
    for (int i = 0; i < n; i++) {
        model[i + 1] = architecture->fields[i];
        model[i + 1].offset += behind;
    }
    r->rows[0] = (field){ .name = "task", .kind = FIELD_ENUM_, .offset = offsetof(recipe_values, task),
                          .choices = TASK_CHOICES, .doc = TASK_DOC };
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

/* "recipe.yaml:3:1: " or "--set: ". */
static const char *place_of(heed_recipe *r, const yaml_entry *e, bool of_value)
{
    const char *made = e->line == 0 ? heed__arena_format(&r->arena, "%s %s: ", e->origin, e->key)
                                    : heed__arena_format(&r->arena, "%s:%d:%d: ", r->path,
                                                         of_value ? e->value_line : e->line,
                                                         of_value ? e->value_column : e->column);
    return made ? made : "";
}

static heed_status pick_architecture(heed_recipe *r, heed_error *err)
{
    const yaml_entry *e = find_entry(&r->given, "model.name");
    const heed_architecture *found = e ? heed__architecture(e->value) : NULL;
    const char *names[64];
    int n = 0;

    if (found)
        return make_tables(r, found, err);
    for (const heed_architecture *const *a = heed__architectures; *a && n < 63; a++)
        names[n++] = (*a)->name;
    names[n] = NULL;
    if (!e)
        return heed__fail_at(err, HEED_ERR_FORMAT, r->path,
                             "%s: model.name is missing; it is one of mlp, cnn, conv-attention, vit",
                             r->path);
    {
        const char *near = heed__nearest(e->value, names);

        return heed__fail_at(err, HEED_ERR_FORMAT, r->path,
                             "%smodel.name: there is no architecture \"%.60s\"%s%s%s", place_of(r, e, true),
                             e->value, near ? "; did you mean \"" : "; heed help recipes lists them",
                             near ? near : "", near ? "\"?" : "");
    }
}

static heed_status set_entry(heed_recipe *r, const yaml_entry *e, heed_error *err)
{
    void *object = r->values;
    char near[64] = "";
    heed_error why = { 0 };
    const field *row = heed__field_find(r->rows, e->key, &object, near);

    if (!row || row->kind == FIELD_GROUP_)
        return heed__fail_at(err, e->line ? HEED_ERR_FORMAT : HEED_ERR_USAGE, r->path,
                             "%s%s \"%.100s\"%s%s%s", place_of(r, e, false),
                             row ? "a value for a group of keys," : "unknown key", e->key,
                             near[0] ? "; did you mean \"" : "", near, near[0] ? "\"?" : "");
    if (heed__field_set(row, object, e->value, &r->arena, e->key, &why) == HEED_OK)
        return HEED_OK;
    return heed__fail_at(err,
                         why.code == HEED_ERR_MEMORY ? why.code
                         : e->line                   ? HEED_ERR_FORMAT
                                                     : HEED_ERR_USAGE,
                         r->path, "%s%s", place_of(r, e, true), why.text);
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
        return heed__fail(err, HEED_ERR_USAGE, "--set takes key=value, as in train.epochs=3; \"%.60s\" is not that", given);
    key = heed__arena_copy(&r->arena, given, (size_t)(equals - given) + 1);
    e.value = heed__arena_string(&r->arena, equals + 1);
    if (!key || !e.value)
        return heed__fail_memory(err, strlen(given));
    key[equals - given] = '\0';
    e.key = key;
    for (int i = 0; i < r->given.n; i++)
        if (strcmp(r->given.entries[i].key, key) == 0) {
            r->given.entries[i] = e;
            return HEED_OK;
        }
    return heed__yaml_add(&r->given, &r->arena, &e, err);
}

heed_status heed_recipe_open(heed_recipe **out, heed_context *ctx, const char *path,
                             const char *const *overrides, heed_error *err)
{
    heed_recipe *r = heed__alloc(ctx->heap, 1, sizeof *r);
    file_bytes file = { 0 };
    heed_status st;

    if (!r)
        return heed__fail_memory(err, sizeof *r);
    r->ctx = ctx;
    heed__arena_init(&r->arena, ctx->heap);
    heed__text_init(&r->shown, ctx->heap, 0);
    r->path = heed__arena_string(&r->arena, path);
    if (!r->path) {
        st = heed__fail_memory(err, strlen(path));
        goto done;
    }
    STEP(heed__file_read(&file, ctx, path, ctx->limits.yaml_bytes, err));
    STEP(heed__yaml_flatten(&r->given, ctx, &r->arena, r->path, file.data, file.size, err));
    for (; overrides && *overrides; overrides++)
        STEP(add_override(r, *overrides, err));
    STEP(pick_architecture(r, err));
    for (int i = 0; i < r->given.n; i++)
        STEP(set_entry(r, &r->given.entries[i], err));
    *out = r;
    r = NULL;
done:
    heed__release(ctx->heap, file.data);
    heed_recipe_free(r);
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

static const char *origin_of(heed_recipe *r, const char *key)
{
    const yaml_entry *e = find_entry(&r->given, key);
    const char *where;

    if (!e)
        return "default";
    if (e->line == 0)
        return e->origin;
    where = heed__arena_format(&r->arena, "%s:%d", r->path, e->line);
    return where ? where : "";
}

static const char *kind_name(field_kind kind)
{
    static const char *const names[] = {
        [FIELD_INT_] = "whole number",       [FIELD_I64_] = "whole number",   [FIELD_F32_] = "number",
        [FIELD_F64_] = "number",             [FIELD_BOOL_] = "true or false", [FIELD_ENUM_] = "one of",
        [FIELD_FLAGS_] = "some of",          [FIELD_STRING_] = "text",        [FIELD_I64S_] = "list",
        [FIELD_MAYBE_I64_] = "whole number", [FIELD_MAYBE_F32_] = "number",
    };

    return (size_t)kind < sizeof names / sizeof *names && names[kind] ? names[kind] : "";
}

static void tell_rows(const field *rows, const char *group, const heed_architecture *a, heed_recipe_key_fn *each, void *user)
{
    for (const field *row = rows; row->kind != FIELD_END_; row++)
        each(user, &(heed_recipe_key){ .group = group, .name = row->name, .kind = kind_name(row->kind), .choices = row->choices,
                                       .min = row->min, .max = row->max, .fallback = row->fallback, .doc = row->doc,
                                       .architecture = a ? a->name : NULL, .model = a ? a->doc : NULL });
}

void heed_recipe_keys(heed_recipe_key_fn *each, void *user)
{
    each(user, &(heed_recipe_key){ .group = "", .name = "task", .kind = "one of", .choices = TASK_CHOICES, .doc = TASK_DOC });
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
    heed__text_release(&value);
}

static void print_group(heed_recipe *r, text *t, const field *rows, const void *object, const char *prefix,
                        int indent)
{
    for (const field *row = rows; row->kind != FIELD_END_; row++) {
        const char *key = prefix[0] ? heed__arena_format(&r->arena, "%s.%s", prefix, row->name) : row->name;
        const bool unset =
            (row->kind == FIELD_MAYBE_F32_ &&
             !((const heed_maybe_f32 *)(const void *)((const char *)object + row->offset))->set) ||
            (row->kind == FIELD_MAYBE_I64_ &&
             !((const heed_maybe_i64 *)(const void *)((const char *)object + row->offset))->set);

        if (!key || unset)
            continue;
        heed__text_add(t, "%*s%s:", indent, "", row->name);
        if (row->kind == FIELD_GROUP_) {
            heed__text_add(t, "\n");
            print_group(r, t, row->rows, (const char *)object + row->offset, key, indent + 2);
            continue;
        }
        heed__text_add(t, " ");
        print_value(t, row, object);
        heed__text_add(t, "  # %s\n", origin_of(r, key));
    }
}

heed_status heed_recipe_print(char **out, const heed_recipe *r, heed_error *err)
{
    heed_recipe *open = (heed_recipe *)(uintptr_t)r; /* its arena takes the keys' names */
    char *done;
    text t;

    heed__text_init(&t, r->ctx->heap, 0);
    print_group(open, &t, r->rows, r->values, "", 0);
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
