/* heed train: recipe -> run. stderr shows progress; stdout ends with what came out, where it lies, what to type next. */

#include "cli/progress.h"
#include "cli/train.h"

#include <stdlib.h>
#include <string.h>

static const cli_option train_table[] = {
    OPTIONAL(train_args, recipe, .value = "RECIPE",
             .doc = "a YAML file; heed help recipes lists its keys. --resume finds it in the folder of the run"),
    STRING(train_args, task, .value = "TASK",
           .doc = "instead of a recipe: image-classification takes the recipe built in and finishes it from the data"),
    PATH(train_args, data, .value = "DIR",
         .doc = "data.path of the recipe: a folder of pictures for each class, or of IDX files"),
    PATH(train_args, init, .value = "FILE", .doc = "train.init: a safetensors file of weights to begin with"),
    REPEATED(train_args, freeze, .value = "PATTERN", .doc = "train.freeze: parameters that stay as they are, as in stem.*"),
    PATH(train_args, out, .value = "DIR", .doc = "folder of the run; it is made"),
    REPEATED(train_args, set, .value = "KEY=VALUE", .doc = "replaces a value of the recipe: train.epochs=3"),
    MAYBE(train_args, seed, .value = "N", .max = INT64_C(9000000000000000), .variable = "HEED_SEED",
          .doc = "of weights, order, augmentation and dropout: train.seed of the recipe"),
    MAYBE(train_args, threads, .value = "N", .max = 1024, .variable = "HEED_THREADS",
          .doc = "threads that compute: train.threads of the recipe; 0 takes one for each CPU"),
    ISA_OPTION(train_args),
    FORCE_OPTION(train_args, "writes over a run, or a training that was interrupted; a run stays until the new one is whole"),
    SWITCH(train_args, resume, .doc = "goes on from the newest checkpoint in DIR, to the same bits"),
    SWITCH(train_args, fresh, .doc = "with --resume: begins anew where no checkpoint can be used"),
    PROFILE_OPTION(train_args),
    SWITCH(train_args, print_config, .doc = "prints every value and where it came from, and trains nothing"),
    JSON_OPTION(train_args, "a JSON object a line: one an epoch, then one for the run"),
    OPTIONS_END,
};

typedef struct watcher {
    progress progress;
    bool json;
} watcher;

static void train_json_number(const char *name, double value)
{
    printf(",\"%s\":", name);
    heed__cli_number(stdout, value);
}

static bool train_watch(void *user, const heed_progress *p)
{
    watcher *w = user;

    if (w->json && p->epoch_ended) {
        printf("{\"epoch\":%lld,\"epochs\":%lld,\"step\":%lld,\"steps\":%lld,\"samples\":%lld",
               (long long)p->epoch, (long long)p->epochs, (long long)p->step, (long long)p->steps,
               (long long)p->samples);
        train_json_number("loss", p->loss);
        if (p->validation_accuracy >= 0) {
            train_json_number("validation_loss", p->validation_loss);
            train_json_number("validation_accuracy", p->validation_accuracy);
        }
        train_json_number("lr", p->lr);
        train_json_number("grad_norm", p->grad_norm);
        train_json_number("rate", p->rate);
        train_json_number("seconds", p->seconds);
        printf("}\n");
        (void)fflush(stdout); /* a reader that went away does not end the training: the run is its result */
    }
    return heed__progress_show(&w->progress, p);
}

static bool train_reading(void *user, int64_t done, int64_t total)
{
    watcher *w = user;

    return heed__progress_read(&w->progress, done, total);
}

static void train_notice(void *user, const char *sentence)
{
    watcher *w = user;

    heed__progress_note(&w->progress, sentence);
}

static void train_json(const train_args *a, const heed_train_result *r)
{
    printf("{\"run\":");
    heed__cli_json(stdout, a->out);
    printf(",\"epochs\":%lld,\"steps\":%lld,\"parameters\":%lld,\"metrics\":{\"loss\":", (long long)r->epochs,
           (long long)r->steps, (long long)r->parameters);
    heed__cli_number(stdout, r->train_loss);
    if (r->validation_accuracy >= 0) {
        train_json_number("validation_loss", r->validation_loss);
        train_json_number("validation_accuracy", r->validation_accuracy);
        train_json_number("baseline_accuracy", r->baseline_accuracy);
        printf(",\"best_epoch\":%lld,\"weights_epoch\":%lld", (long long)r->best_epoch,
               (long long)r->weights_epoch);
    }
    printf("}");
    train_json_number("seconds", r->seconds);
    printf(",\"peak_bytes\":%llu,\"sha256\":\"%s\"}\n", (unsigned long long)r->peak_bytes, r->sha256);
}

static void train_text(const cli *c, const train_args *a, const heed_train_result *r)
{
    char report[4096], steps[32], parameters[32], seconds[32], peak[32];

    if (r->validation_accuracy >= 0)
        printf("validation  %saccuracy %.4f%s, loss %.4f, of epoch %lld (always naming the commonest class: %.4f)\n",
               c->out.bold, r->validation_accuracy, c->out.off, r->validation_loss, (long long)r->weights_epoch,
               r->baseline_accuracy);
    else
        printf("training    loss %.4f; not validated\n", r->train_loss);
    printf("training    %lld epoch%s, %s step%s, %s; %s parameters, at most %s of memory\n", (long long)r->epochs,
           r->epochs == 1 ? "" : "s", heed__cli_count(steps, r->steps), r->steps == 1 ? "" : "s",
           heed__cli_seconds(seconds, r->seconds),
           heed__cli_count(parameters, r->parameters), heed__cli_bytes(peak, r->peak_bytes));
    printf("run         ");
    heed__cli_text(stdout, a->out);
    printf(": model.safetensors, config.json, recipe.yaml, metrics.jsonl, README.md\n");
    (void)snprintf(report, sizeof report, "%s/report.html", a->out);
    if (heed__cli_is_there(report)) {
        printf("report      ");
        heed__cli_text(stdout, report);
        putchar('\n');
    }
    printf("weights     sha256 %s\n", r->sha256);
    printf("next        heed eval ");
    heed__cli_word(stdout, a->out);
    putchar('\n');
}

/* "--flag:key=value", or several values with commas between; free() it. NULL when memory ran out. */
static char *train_override(const char *flag_and_key, const char *const *values, int n)
{
    size_t size = strlen(flag_and_key) + 2;
    char *text;

    for (int i = 0; i < n; i++)
        size += strlen(values[i]) + 1;
    text = malloc(size);
    if (!text)
        return NULL;
    (void)snprintf(text, size, "%s=", flag_and_key);
    for (int i = 0; i < n; i++) {
        const size_t at = strlen(text);

        (void)snprintf(text + at, size - at, "%s%s", i ? "," : "", values[i]);
    }
    return text;
}

/* Of equal keys the last one counts: variable, then --set, then the options. Threads are no override, so
 * that they do not show in the run. */
static heed_status train_open(cli *c, const train_args *a, heed_recipe **recipe)
{
    char *found = NULL;
    const char **overrides = calloc((size_t)a->set.n + 5, sizeof *overrides);
    const bool seed_given = heed__cli_given(c, train_table, "seed");
    char seed[64], *init = NULL, *freeze = NULL, *data = NULL;
    heed_status st;
    int n = 0;

    if (a->init)
        init = train_override("--init:train.init", &a->init, 1);
    if (a->freeze.n)
        freeze = train_override("--freeze:train.freeze", a->freeze.at, a->freeze.n);
    if (a->data)
        data = train_override("--data:data.path", &a->data, 1);
    if (!overrides || (a->init && !init) || (a->freeze.n && !freeze) || (a->data && !data)) {
        st = heed__cli_fail(c, HEED_ERR_MEMORY, "no memory for %d values", a->set.n);
        goto done;
    }
    (void)snprintf(seed, sizeof seed, "%s:train.seed=%lld", seed_given ? "--seed" : "HEED_SEED",
                   (long long)a->seed.value);
    if (a->seed.set && !seed_given)
        overrides[n++] = seed;
    for (int i = 0; i < a->set.n; i++)
        overrides[n++] = a->set.at[i];
    if (data)
        overrides[n++] = data;
    if (init)
        overrides[n++] = init;
    if (freeze)
        overrides[n++] = freeze;
    if (seed_given)
        overrides[n++] = seed;
    if (!a->recipe && !a->task)
        STEP(heed_train_recipe(&found, c->ctx, a->out, &c->err));
    st = a->task ? heed_recipe_open_task(recipe, c->ctx, a->task, a->data, overrides, &c->err)
                 : heed_recipe_open(recipe, c->ctx, a->recipe ? a->recipe : found, overrides, &c->err);
done:
    heed_text_free(c->ctx, found);
    free(data);
    free(freeze);
    free(init);
    free(overrides);
    return st;
}

/* A context is made with its number of threads. Where neither option nor variable says it, the recipe does,
 * so that it is read once before. */
static heed_status train_threads(cli *c, const train_args *a, int64_t *threads)
{
    heed_recipe *recipe = NULL;
    const char *text;
    heed_status st;

    *threads = a->threads.value;
    if (a->threads.set)
        return HEED_OK;
    STEP(heed__cli_open(c, 1, HEED_ISA_AUTO));
    STEP(train_open(c, a, &recipe));
    for (text = heed_recipe_get(recipe, "train.threads"); *text >= '0' && *text <= '9' && *threads < 1024;
         text++)
        *threads = *threads * 10 + (*text - '0');
done:
    heed_recipe_free(recipe);
    heed_context_free(c->ctx);
    c->ctx = NULL;
    return st;
}

heed_status heed__cli_train_run(cli *c, const train_args *a)
{
    heed_recipe *recipe = NULL;
    heed_train_result result = { 0 };
    heed_profile *profile = NULL;
    watcher w = { .json = a->json };
    char *shown = NULL;
    int64_t threads;
    heed_status st;

    if (a->recipe && a->task)
        return heed__cli_fail(c, HEED_ERR_USAGE, "heed train takes a RECIPE or --task TASK --data DIR; both were given");
    if (!a->recipe && !a->task && !a->resume)
        return heed__cli_fail(c, HEED_ERR_USAGE, "heed train needs a RECIPE, or --task TASK --data DIR, or --resume");
    if (a->task && !a->data)
        return heed__cli_fail(c, HEED_ERR_USAGE, "--task needs --data DIR: a folder of pictures for each class, or of "
                                                 "the four IDX files");
    if (a->fresh && !a->resume)
        return heed__cli_fail(c, HEED_ERR_USAGE, "--fresh goes with --resume; --force begins anew");
    if (a->resume && a->force)
        return heed__cli_fail(c, HEED_ERR_USAGE, "--resume goes on and --force begins anew: one of them");
    if (!a->out && (!a->print_config || (!a->recipe && !a->task)))
        return heed__cli_fail(c, HEED_ERR_USAGE, "heed train needs --out DIR: the folder of the run");
    TRY(train_threads(c, a, &threads));
    TRY(heed__cli_open(c, threads, a->isa));
    STEP(train_open(c, a, &recipe));
    if (a->print_config) {
        STEP(heed_recipe_print(&shown, recipe, &c->err));
        fputs(shown, stdout);
        goto done;
    }
    STEP(heed__cli_profile_begin(c, &profile, a->profile, a->force));
    heed__progress_init(&w.progress, c);
    heed__progress_catch();
    st = heed_train(
        &result, c->ctx, recipe,
        &(heed_train_opts){ .out = a->out,
                            .force = a->force,
                            .resume = a->resume,
                            .fresh = a->fresh,
                            .progress = train_watch,
                            .reading = train_reading,
                            .notice = train_notice,
                            .user = &w,
                            .profile = profile },
        &c->err);
    heed__progress_end(&w.progress);
    if (st == HEED_OK && a->json)
        train_json(a, &result);
    else if (st == HEED_OK)
        train_text(c, a, &result);
    if (st == HEED_OK)
        st = heed__cli_profile_end(c, profile, a->profile);
    else if (st == HEED_ERR_STOPPED)
        (void)heed__cli_profile_end(c, profile, a->profile); /* the first error stays */
done:
    heed_profile_free(profile);
    heed_text_free(c->ctx, shown);
    heed_recipe_free(recipe);
    return st;
}

static heed_status train_run(cli *c, const void *args)
{
    return heed__cli_train_run(c, args);
}

const cli_command heed__cli_train = {
    .name = "train",
    .does = "train what a recipe describes, and write a run",
    .options = train_table,
    .args_size = sizeof(train_args),
    .run = train_run,
    .about =
        "With --task nothing but data is needed: my_photos/CLASS/*.jpg (PNG, JPEG, PGM, PPM), or my_photos/train/CLASS and"
        " my_photos/test/CLASS. Without a test folder one picture in ten is kept for heed eval and never trained on, by digest."
        " --print-config shows what was chosen and why; heed data check DIR looks before.\n"
        "The run is a folder: model.safetensors (PyTorch's names and layouts), config.json, preprocessor_config.json, recipe.yaml,"
        " metrics.jsonl, report.html (of the validation part), event files for TensorBoard and README.md. The test part of the data is"
        " not read; heed eval and heed report read it.\n"
        "While it trains it keeps checkpoints (train.checkpoint_epochs and its like in the recipe, train.keep). After a kill, a"
        " power cut or a full disk --resume goes on from the newest one that is whole, and ends with the same weights, to the"
        " bit, as if nothing had happened. Ctrl-C writes one more and ends with 130; a second one ends at once.\n"
        "With --json a line is {\"epoch\", \"epochs\", \"step\", \"steps\", \"samples\", \"loss\", \"validation_loss\","
        " \"validation_accuracy\", \"lr\", \"grad_norm\", \"rate\", \"seconds\"}, the last one {\"run\", \"epochs\", \"steps\","
        " \"parameters\", \"metrics\": {\"loss\", \"validation_loss\", \"validation_accuracy\", \"baseline_accuracy\","
        " \"best_epoch\", \"weights_epoch\"},"
        " \"seconds\", \"peak_bytes\", \"sha256\"}. What concerns validation is missing where there was none.\n",
    .example =
        "heed train --task image-classification --data my_photos --out runs/mine\n"
        "heed train recipes/fashion-attention.yaml --out runs/fa\n"
        "heed train --out runs/fa --resume\n"
        "heed train recipes/fashion-attention.yaml --out runs/short --set train.epochs=1 --seed 1 --json\n",
};
