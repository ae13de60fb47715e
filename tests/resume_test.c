/* Trainings that are interrupted, in every way that can be made, and go on: weights, moments, averages,
 * random numbers and the log of losses are those of the training that was left alone, to the bit. */
#include "support/cmocka.h"
#include "base/digest.h"
#include "support/crash_files.h"
#include "support/fail_each.h"
#include "support/full_disk.h"
#include "support/toy.h"

#include <heed/task.h>

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define OVERRIDES 12

typedef struct day {
    scratch *s;
    char data[128], recipe[128], out[128];
    const char *set[OVERRIDES + 1]; /* overrides of the recipe, ended by NULL */
    int stop_at, calls;             /* the callback stops then; 0: never */
    int notices;
    char said[400];
    heed_context *ctx;
} day;

static void write_recipe(const char *path, const char *data)
{
    char words[1000];

    snprintf(
        words, sizeof words,
        "data: {path: %s, classes: [one, two, three], validation: 0.2, mirror: true, shift: 1}\n"
        "model: {name: mlp, hidden: [5], dropout: 0.2}\n"
        "train: {epochs: 3, batch_size: 8, lr: 0.01, clip_norm: 1, seed: 5, checkpoint_steps: 2, ema: 0.8,\n"
        "        accumulate: 2, warmup: 0.2, tensorboard: false, report: false}\n",
        data);
    scratch_put(path, words, strlen(words));
}

static day open_day(scratch *s)
{
    day d = { .s = s, .ctx = s->ctx };

    snprintf(d.data, sizeof d.data, "%s/data", s->folder);
    snprintf(d.recipe, sizeof d.recipe, "%s/recipe.yaml", s->folder);
    snprintf(d.out, sizeof d.out, "%s/run", s->folder);
    assert_int_equal(mkdir(d.data, 0700), 0);
    toy_write_idx(d.data, 30, 5);
    write_recipe(d.recipe, d.data);
    return d;
}

static const char *in_folder(const char *folder, const char *name)
{
    static char paths[8][512];
    static int next;
    char *path = paths[next++ % 8];

    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static bool watch(void *user, const heed_progress *p)
{
    day *d = user;

    (void)p;
    return ++d->calls == d->stop_at;
}

static void hear(void *user, const char *sentence)
{
    day *d = user;

    d->notices++;
    snprintf(d->said, sizeof d->said, "%s", sentence);
}

enum how { ANEW, FORCE, RESUME, RESUME_OR_FRESH, FORCE_FRESH };

static heed_status train(day *d, enum how how, heed_train_result *result, heed_error *err)
{
    heed_train_result ignored;
    heed_recipe *r = NULL;
    heed_status st;

    d->calls = d->notices = 0;
    st = heed_recipe_open(&r, d->ctx, d->recipe, d->set, err);
    if (st == HEED_OK)
        st = heed_train(result ? result : &ignored, d->ctx, r,
                        &(heed_train_opts){ .out = d->out,
                                            .force = how == FORCE || how == FORCE_FRESH,
                                            .resume = how >= RESUME,
                                            .fresh = how >= RESUME_OR_FRESH,
                                            .progress = watch,
                                            .notice = hear,
                                            .user = d },
                        err);
    heed_recipe_free(r);
    return st;
}

/* ---- what must be the same ---- */

typedef struct fingerprint {
    char digest[65];
} fingerprint;

/* The newest set of a run: that of most steps, and of those the one with the longest name. */
static void newest_set(char to[64], const char *sets)
{
    long best = -1;
    struct dirent *e;
    DIR *dir = opendir(sets);

    assert_non_null(dir);
    to[0] = '\0';
    while ((e = readdir(dir)))
        if (strncmp(e->d_name, "step-", 5) == 0) {
            const long step = atol(e->d_name + 5);

            if (step > best || (step == best && strcmp(e->d_name, to) > 0)) {
                best = step;
                snprintf(to, 64, "%.63s", e->d_name);
            }
        }
    closedir(dir);
}

static void digest_file(sha256 *sum, const char *path)
{
    size_t n;
    uint8_t *bytes = scratch_get(path, &n);

    heed__sha256_add(sum, bytes, n);
    free(bytes);
}

/* metrics.jsonl without its times. */
static void digest_log(sha256 *sum, const char *path)
{
    size_t n;
    char *log = (char *)scratch_get(path, &n), *at = log;

    for (char *cut; (cut = strstr(at, ",\"seconds\":")) != NULL; at = strchr(cut, '\n'))
        heed__sha256_add(sum, at, (size_t)(cut - at));
    heed__sha256_add(sum, at, strlen(at));
    free(log);
}

static fingerprint fingerprint_of(const day *d)
{
    fingerprint f;
    uint8_t digest[32];
    char sets[200], set[64], folder[300];
    sha256 sum;

    heed__sha256_init(&sum);
    snprintf(sets, sizeof sets, "%s/checkpoints", d->out);
    newest_set(set, sets);
    snprintf(folder, sizeof folder, "%s/%s", sets, set);
    digest_file(&sum, in_folder(d->out, "model.safetensors"));
    digest_file(&sum, in_folder(d->out, "config.json"));
    digest_file(&sum, in_folder(d->out, "recipe.yaml"));
    digest_file(&sum, in_folder(d->out, "README.md"));
    digest_file(&sum, in_folder(folder, "model.safetensors"));
    digest_file(&sum,
                in_folder(folder, "optimizer.safetensors")); /* moments, averages, sums, random numbers */
    digest_log(&sum, in_folder(d->out, "metrics.jsonl"));
    heed__sha256_end(&sum, digest);
    heed__hex(f.digest, digest, sizeof digest);
    return f;
}

static fingerprint left_alone(day *d)
{
    fingerprint f;

    TOY_OK(train(d, ANEW, NULL, TOY_ERR));
    f = fingerprint_of(d);
    scratch_clear(d->out);
    return f;
}

static void assert_same(const day *d, const fingerprint *want, const char *what, int at)
{
    const fingerprint got = fingerprint_of(d);

    if (strcmp(got.digest, want->digest) != 0)
        fail_msg("%s %d: the training ended otherwise", what, at);
}

/* ---- stopped ---- */

static void a_training_stopped_after_any_batch_goes_on_to_the_same_bits(void **state)
{
    static const char *const ways[][4] = {
        { NULL },
        { "train.optimizer=sgd", "train.momentum=0.9", "train.accumulate=3", NULL },
        { "train.amsgrad=true", "train.ema=0", "train.accumulate=1", "train.schedule=one-cycle" },
        { "train.schedule=plateau", "train.plateau_patience=0", "train.monitor=val_loss",
          "train.plateau_threshold=1" },
        { "train.optimizer=rmsprop", "train.select=last", "train.max_steps=4", NULL },
        { "data.validation=0", "train.checkpoint_epochs=0", "train.checkpoint_steps=0", NULL },
    };
    day d = open_day(*state);
    heed_context *three = toy_context(3, HEED_ISA_AUTO);
    int cells = 0;

    for (size_t way = 0; way < sizeof ways / sizeof *ways; way++) {
        fingerprint want;

        memset(d.set, 0, sizeof d.set);
        for (int i = 0; i < 4 && ways[way][i]; i++)
            d.set[i] = ways[way][i];
        want = left_alone(&d);
        for (int stop = 1;; stop++, cells++) {
            heed_status st;

            d.stop_at = stop;
            st = train(&d, ANEW, NULL, NULL);
            d.stop_at = 0;
            if (st == HEED_OK) /* it had ended before */
                break;
            assert_int_equal(st, HEED_ERR_STOPPED);
            d.ctx = stop % 2 ? three : d.s->ctx; /* threads do not matter */
            TOY_OK(train(&d, RESUME, NULL, TOY_ERR));
            d.ctx = d.s->ctx;
            assert_int_equal(d.notices, 0);
            assert_same(&d, &want, "stopped after call", stop);
            scratch_clear(d.out);
        }
        scratch_clear(d.out);
    }
    print_message("stopped and gone on with: %d trainings, the same bits each time\n", cells);
    heed_context_free(three);
}

static void a_training_stopped_again_and_again_ends_the_same(void **state)
{
    day d = open_day(*state);
    const fingerprint want = left_alone(&d);
    int times = 1;

    d.stop_at = 1;
    assert_int_equal(train(&d, ANEW, NULL, NULL), HEED_ERR_STOPPED);
    while (train(&d, RESUME, NULL, NULL) == HEED_ERR_STOPPED)
        times++;
    assert_same(&d, &want, "stopped times", times);
    assert_true(times > 8);
}

static void a_finished_run_is_finished_again_and_stays_what_it_is(void **state)
{
    day d = open_day(*state);
    heed_train_result first, second;
    fingerprint want;

    TOY_OK(train(&d, ANEW, &first, TOY_ERR));
    want = fingerprint_of(&d);
    TOY_OK(train(&d, RESUME, &second, TOY_ERR));
    assert_same(&d, &want, "again", 1);
    assert_int_equal(d.calls, 0); /* not a step */
    assert_string_equal(first.sha256, second.sha256);
    assert_true(first.train_loss == second.train_loss && first.validation_loss == second.validation_loss);
    assert_int_equal(first.weights_epoch, second.weights_epoch);
    assert_int_equal(first.steps, second.steps);
}

/* ---- killed ---- */

static void a_death_at_any_file_call_of_a_training_costs_no_bit(void **state)
{
    day d = open_day(*state);
    const file_ops *real = d.ctx->files;
    dying_files f;
    fingerprint want;
    uint64_t calls;
    int fresh = 0;

    d.set[0] = "train.epochs=2";
    want = left_alone(&d);
    dying_files_init(&f, real);
    d.ctx->files = &f.ops;
    TOY_OK(train(&d, ANEW, NULL, TOY_ERR));
    d.ctx->files = real;
    calls = f.calls;
    for (uint64_t n = 1; n <= calls; n++) {
        heed_error err = { 0 };
        heed_status st;

        scratch_clear(d.out);
        dying_files_init(&f, real);
        f.at = n;
        f.torn = n % 2;
        d.ctx->files = &f.ops;
        (void)train(&d, ANEW, NULL, NULL);
        d.ctx->files = real;
        st = train(&d, RESUME, NULL, &err);
        if (st != HEED_OK) { /* nothing was committed yet, and it says so */
            if (st != HEED_ERR_IO || f.committed > 0 || !strstr(err.text, "there is no "))
                fail_msg("death at call %d: %s", (int)n, err.text);
            fresh++;
            TOY_OK(train(&d, RESUME_OR_FRESH, NULL, TOY_ERR));
        }
        assert_same(&d, &want, "death at call", (int)n);
    }
    print_message("death at each of %d file calls of a training: the same bits; %d before the first set\n",
                  (int)calls, fresh);
}

/* SIGKILL in truth, in a process of its own, from the first call of one save to its last. */
static void a_kill_at_any_call_of_a_save_costs_no_bit(void **state)
{
    day d = open_day(*state);
    const file_ops *real = d.ctx->files;
    fingerprint want;
    dying_files f;
    uint64_t first, last;
    int killed = 0;

    d.set[0] = "train.epochs=2";
    d.set[1] = "train.checkpoint_steps=0";
    d.set[2] = "train.keep=1";
    want = left_alone(&d);
    dying_files_init(&f, real);
    d.ctx->files = &f.ops;
    TOY_OK(train(&d, ANEW, NULL, TOY_ERR));
    d.ctx->files = real;
    assert_int_equal(f.committed, 2);
    first = f.commits[0];
    last = f.commits[1] + 40; /* the old set is gone by then */
    for (uint64_t n = first; n <= last; n++) {
        int status;
        pid_t child;

        scratch_clear(d.out);
        child = fork();
        if (child == 0) {
            heed_context *ctx = NULL;

            if (heed_context_new(&ctx, &(heed_context_opts){ .threads = 1 }, NULL) != HEED_OK)
                _exit(3);
            dying_files_init(&f, ctx->files);
            f.at = n;
            f.kill = true;
            ctx->files = &f.ops;
            d.ctx = ctx;
            (void)train(&d, ANEW, NULL, NULL);
            _exit(4);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        killed++;
        TOY_OK(n > first ? train(&d, RESUME, NULL, TOY_ERR) : train(&d, RESUME_OR_FRESH, NULL, TOY_ERR));
        assert_same(&d, &want, "SIGKILL at call", (int)n);
    }
    print_message("SIGKILL at %d file calls, one after the other: the same bits\n", killed);
    assert_true(killed > 100);
}

/* ---- over a run ---- */

static void a_run_that_is_written_over_can_be_used_at_any_moment(void **state)
{
    day d = open_day(*state);
    const file_ops *real = d.ctx->files;
    heed_train_result old, new;
    fingerprint want;
    dying_files f;
    uint64_t calls;
    int old_runs = 0, new_runs = 0;

    d.set[0] = "train.epochs=1";
    d.set[1] = "train.checkpoint_steps=0";
    d.set[2] = "train.seed=6";
    want = left_alone(&d);
    d.set[2] = "train.seed=5";
    TOY_OK(train(&d, ANEW, &old, TOY_ERR));
    for (uint64_t n = calls = 1; n <= calls; n++) {
        char digest[65];
        heed_run *r = NULL;

        scratch_clear(d.out);
        d.set[2] = "train.seed=5";
        TOY_OK(train(&d, ANEW, NULL, TOY_ERR));
        d.set[2] = "train.seed=6";
        dying_files_init(&f, real);
        f.at = n == 1 ? 0 : n; /* the first time it lives, to count its calls */
        d.ctx->files = &f.ops;
        (void)train(&d, FORCE, &new, NULL);
        d.ctx->files = real;
        calls = n == 1 ? f.calls : calls;
        TOY_OK(heed_run_open(&r, d.ctx, d.out, TOY_ERR));
        toy_digest(digest, heed_run_model(r), HEED_WEIGHTS_MODEL);
        heed_run_free(r);
        old_runs += strcmp(digest, old.sha256) == 0;
        new_runs += strcmp(digest, new.sha256) == 0;
        if (strcmp(digest, old.sha256) ==
            0) /* nothing of the new one counts yet; it may go on or begin again */
            TOY_OK(train(&d, FORCE, NULL, TOY_ERR));
        else
            TOY_OK(train(&d, RESUME, NULL, TOY_ERR));
        assert_same(&d, &want, "written over, death at call", (int)n);
        assert_int_equal(scratch_entries(d.out), 7);
    }
    print_message(
        "death at each of %d file calls while a run is written over: the old one %d, the new one %d times\n",
        (int)calls, old_runs, new_runs);
    assert_int_equal(old_runs + new_runs, (int)calls);
    assert_true(old_runs > 100 && new_runs > 10);
}

static void a_training_over_a_run_goes_on_too(void **state)
{
    day d = open_day(*state);
    const fingerprint want = left_alone(&d);
    heed_train_result old;
    char digest[65];
    heed_run *r = NULL;

    d.set[0] = "train.seed=6";
    TOY_OK(train(&d, ANEW, &old, TOY_ERR));
    d.set[0] = NULL;
    d.stop_at = 6;
    assert_int_equal(train(&d, FORCE, NULL, NULL), HEED_ERR_STOPPED);
    d.stop_at = 0;
    TOY_OK(heed_run_open(&r, d.ctx, d.out, TOY_ERR));
    toy_digest(digest, heed_run_model(r), HEED_WEIGHTS_MODEL);
    assert_string_equal(digest, old.sha256);
    heed_run_free(r);
    TOY_OK(train(&d, RESUME, NULL, TOY_ERR));
    assert_same(&d, &want, "over a run, stopped at", 6);
    assert_int_equal(scratch_entries(d.out), 7);
}

/* As a crash leaves it between the moment at which the new run counts and the end of its moves. */
static void what_is_said_of_a_run_is_of_the_files_that_count(void **state)
{
    static const char *const files[] = { "config.json", "preprocessor_config.json", "recipe.yaml",
                                         "model.safetensors", "metrics.jsonl" };
    day d = open_day(*state);
    heed_diagnosis *found = NULL;
    heed_run *r = NULL;
    uint8_t *page;
    char next[200];
    size_t n;

    TOY_OK(train(&d, ANEW, NULL, TOY_ERR));
    snprintf(next, sizeof next, "%s/next", d.out);
    assert_int_equal(mkdir(next, 0700), 0);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        assert_int_equal(rename(in_folder(d.out, files[i]), in_folder(next, files[i])), 0);
        scratch_put(in_folder(d.out, files[i]), "the old one\n", 12);
    }
    TOY_OK(heed_run_open(&r, d.ctx, d.out, TOY_ERR));
    TOY_OK(heed_run_doctor(&found, NULL, r, NULL, TOY_ERR));
    TOY_OK(heed_run_report(r, NULL, NULL, TOY_ERR));
    page = scratch_get(in_folder(d.out, "report.html"), &n);
    assert_null(strstr((const char *)page, "the old one"));
    free(page);
    heed_diagnosis_free(d.ctx, found);
    heed_run_free(r);
}

static void the_report_of_a_run_that_was_written_over_goes_with_it(void **state)
{
    day d = open_day(*state);

    d.set[0] = "train.report=true";
    TOY_OK(train(&d, ANEW, NULL, TOY_ERR));
    assert_int_equal(access(in_folder(d.out, "report.html"), F_OK), 0);
    d.set[0] = "train.report=false";
    TOY_OK(train(&d, RESUME, NULL, TOY_ERR)); /* it is of this run */
    assert_int_equal(access(in_folder(d.out, "report.html"), F_OK), 0);
    d.set[1] = "train.seed=6";
    TOY_OK(train(&d, FORCE, NULL, TOY_ERR));
    assert_int_equal(access(in_folder(d.out, "report.html"), F_OK), -1);
}

/* ---- damage ---- */

static void spoil(const char *path)
{
    size_t n;
    uint8_t *bytes = scratch_get(path, &n);

    bytes[n / 2] ^= 4;
    scratch_put(path, bytes, n);
    free(bytes);
}

static void a_damaged_set_is_told_and_the_one_before_is_used(void **state)
{
    day d = open_day(*state);
    const fingerprint want = left_alone(&d);
    char set[64], sets[200], path[400];

    d.stop_at = 8;
    assert_int_equal(train(&d, ANEW, NULL, NULL), HEED_ERR_STOPPED);
    d.stop_at = 0;
    snprintf(sets, sizeof sets, "%s/checkpoints", d.out);
    assert_int_equal(scratch_entries(sets), 2);
    newest_set(set, sets);
    snprintf(path, sizeof path, "%s/%s/optimizer.safetensors", sets, set);
    spoil(path);
    TOY_OK(train(&d, RESUME, NULL, TOY_ERR));
    assert_int_equal(d.notices, 1);
    assert_non_null(strstr(d.said, set));
    assert_non_null(strstr(d.said, "is not used"));
    assert_same(&d, &want, "with a damaged set", 1);
}

static void where_every_set_is_damaged_only_fresh_goes_on(void **state)
{
    day d = open_day(*state);
    const fingerprint want = left_alone(&d);
    struct dirent *e;
    heed_error err = { 0 };
    char sets[200], path[400];
    DIR *dir;

    d.stop_at = 8;
    assert_int_equal(train(&d, ANEW, NULL, NULL), HEED_ERR_STOPPED);
    d.stop_at = 0;
    snprintf(sets, sizeof sets, "%s/checkpoints", d.out);
    dir = opendir(sets);
    while ((e = readdir(dir)))
        if (e->d_name[0] == 's') {
            snprintf(path, sizeof path, "%s/%.40s/model.safetensors", sets, e->d_name);
            spoil(path);
        }
    closedir(dir);
    assert_int_equal(train(&d, RESUME, NULL, &err), HEED_ERR_FORMAT);
    assert_non_null(strstr(err.text, "--fresh begins anew"));
    assert_int_equal(scratch_entries(sets), 2);
    TOY_OK(train(&d, RESUME_OR_FRESH, NULL, TOY_ERR));
    assert_non_null(strstr(d.said, "begins anew"));
    assert_same(&d, &want, "begun anew", 1);
}

static void fresh_writes_over_a_run_only_with_force(void **state)
{
    day d = open_day(*state);
    fingerprint want;
    heed_train_result old, new;
    heed_error err = { 0 };
    heed_run *r = NULL;
    char digest[65];

    d.set[0] = "train.seed=6";
    want = left_alone(&d);
    d.set[0] = NULL;
    TOY_OK(train(&d, ANEW, &old, TOY_ERR));
    scratch_clear(in_folder(d.out, "checkpoints"));
    d.set[0] = "train.seed=6";
    assert_int_equal(train(&d, RESUME_OR_FRESH, NULL, &err), HEED_ERR_EXISTS);
    assert_non_null(strstr(err.text, "holds a run already; --force writes over it"));
    d.stop_at = 6;
    assert_int_equal(train(&d, FORCE_FRESH, NULL, NULL), HEED_ERR_STOPPED);
    d.stop_at = 0;
    TOY_OK(heed_run_open(&r, d.ctx, d.out, TOY_ERR)); /* the old one is whole until the new one is */
    toy_digest(digest, heed_run_model(r), HEED_WEIGHTS_MODEL);
    assert_string_equal(digest, old.sha256);
    assert_string_equal(heed_recipe_get(heed_run_recipe(r), "train.seed"), "5");
    heed_run_free(r);
    TOY_OK(train(&d, RESUME, &new, TOY_ERR));
    assert_same(&d, &want, "fresh over a run", 1);
}

static void what_a_training_began_with_is_not_wanted_again(void **state)
{
    day d = open_day(*state);
    char init[200], begin[160];
    fingerprint want;

    TOY_OK(train(&d, ANEW, NULL, TOY_ERR));
    snprintf(begin, sizeof begin, "%s/begin.safetensors", d.s->folder);
    assert_int_equal(rename(in_folder(d.out, "model.safetensors"), begin), 0);
    snprintf(init, sizeof init, "train.init=%s", begin);
    scratch_clear(d.out);
    d.set[0] = init;
    want = left_alone(&d);
    d.stop_at = 6;
    assert_int_equal(train(&d, ANEW, NULL, NULL), HEED_ERR_STOPPED);
    d.stop_at = 0;
    assert_int_equal(unlink(begin), 0);
    TOY_OK(train(&d, RESUME, NULL, TOY_ERR));
    assert_int_equal(d.notices, 0);
    assert_same(&d, &want, "without its first weights", 1);
    assert_int_equal(rename(in_folder(d.out, "model.safetensors"), begin), 0);
    scratch_clear(d.out);
    assert_int_equal(train(&d, RESUME_OR_FRESH, NULL, NULL), HEED_OK); /* beginning, it is */
}

/* What was logged after the checkpoint goes, and comes again. */
static void the_log_is_cut_back_to_the_checkpoint(void **state)
{
    day d = open_day(*state);
    const fingerprint want = left_alone(&d);
    const char *log = in_folder(d.out, "metrics.jsonl");
    char more[300];
    size_t n;
    uint8_t *bytes;
    FILE *f;

    d.stop_at = 8;
    assert_int_equal(train(&d, ANEW, NULL, NULL), HEED_ERR_STOPPED);
    f = fopen(log, "ab");
    fputs("{\"epoch\":2,\"step\":77,\"half a li", f);
    fclose(f);
    d.stop_at = 0;
    TOY_OK(train(&d, RESUME, NULL, TOY_ERR));
    assert_same(&d, &want, "with a longer log", 1);
    scratch_clear(d.out);
    d.stop_at = 8;
    assert_int_equal(train(&d, ANEW, NULL, NULL), HEED_ERR_STOPPED);
    bytes = scratch_get(log, &n);
    snprintf(more, sizeof more, "%.*s", n > 20 ? 20 : (int)n, (char *)bytes);
    scratch_put(log, more, strlen(more)); /* somebody cut it: the weights do not depend on it */
    free(bytes);
    d.stop_at = 0;
    TOY_OK(train(&d, RESUME, NULL, TOY_ERR));
    assert_int_equal(d.notices, 1);
    assert_non_null(strstr(d.said, "metrics.jsonl is shorter"));
}

/* ---- which weights ---- */

typedef struct epoch_line {
    double loss, accuracy;
} epoch_line;

/* Validation of each epoch, from the log. */
static int epochs_of(const day *d, epoch_line *to, int most)
{
    size_t size;
    char *log = (char *)scratch_get(in_folder(d->out, "metrics.jsonl"), &size);
    int n = 0;

    for (const char *at = log; (at = strstr(at, "\"val_loss\":")) != NULL && n < most; n++, at++)
        assert_int_equal(sscanf(at, "\"val_loss\":%lf,\"val_accuracy\":%lf", &to[n].loss, &to[n].accuracy),
                         2);
    free(log);
    return n;
}

/* Accuracy and loss of the run's weights on the validation part can be had again only by training; but the
 * digest of a training that ends with the best epoch must be that of one that picks it. */
static void the_run_has_the_weights_of_the_best_epoch_or_of_the_last(void **state)
{
    day d = open_day(*state);
    heed_train_result best, last, until;
    char steps[40];
    epoch_line e[30];
    int n, want = 0;

    d.set[0] = "train.epochs=12";
    d.set[1] = "train.schedule=constant"; /* the first epochs are the same however many there are */
    d.set[2] = "train.warmup=0";
    d.set[3] = "train.lr=0.1";
    d.set[4] = "train.select=last";
    TOY_OK(train(&d, ANEW, &last, TOY_ERR));
    d.set[4] = "train.select=best";
    TOY_OK(train(&d, FORCE, &best, TOY_ERR));
    n = epochs_of(&d, e, 30);
    assert_int_equal(n, 12);
    for (int i = 1; i < n; i++)
        if (e[i].accuracy > e[want].accuracy ||
            (!(e[i].accuracy < e[want].accuracy) && e[i].loss < e[want].loss))
            want = i;
    assert_true(want < n - 1); /* else the test shows nothing */
    assert_int_equal(best.best_epoch, want + 1);
    assert_int_equal(best.weights_epoch, want + 1);
    assert_int_equal(last.best_epoch, want + 1);
    assert_int_equal(last.weights_epoch, 12);
    assert_true(best.validation_accuracy == e[want].accuracy && best.validation_loss == e[want].loss);
    assert_true(last.validation_accuracy == e[11].accuracy && last.validation_loss == e[11].loss);
    snprintf(steps, sizeof steps, "train.epochs=%d", want + 1);
    d.set[0] = steps;
    d.set[4] = "train.select=last";
    TOY_OK(train(&d, FORCE, &until, TOY_ERR));
    assert_string_equal(until.sha256, best.sha256);
    assert_string_not_equal(last.sha256, best.sha256);
}

static void patience_ends_a_training_that_does_not_get_better(void **state)
{
    day d = open_day(*state);
    heed_train_result r;
    epoch_line e[40];

    d.set[0] = "train.epochs=40";
    d.set[1] = "train.lr=0.3";
    d.set[4] = "train.schedule=constant";
    d.set[2] = "train.patience=3";
    d.set[3] = "train.monitor=val_loss";
    TOY_OK(train(&d, ANEW, &r, TOY_ERR));
    assert_true(r.epochs < 40);
    assert_int_equal(r.epochs, r.best_epoch + 3);
    assert_int_equal(epochs_of(&d, e, 40), r.epochs);
    for (int i = 0; i < r.epochs; i++)
        assert_true(i + 1 == r.best_epoch || e[i].loss >= e[r.best_epoch - 1].loss);
    assert_int_equal(r.weights_epoch, r.best_epoch);
}

/* The loss of a step is that of the weights before it, and is finite. */
static void a_validation_loss_that_is_not_finite_ends_the_training(void **state)
{
    day d = open_day(*state);
    heed_error err = { 0 };

    d.set[0] = "train.optimizer=sgd"; /* the one step multiplies each of eight layers by 1 - 1e5 */
    d.set[1] = "train.lr=1000";
    d.set[2] = "train.weight_decay=100";
    d.set[3] = "train.schedule=constant";
    d.set[4] = "train.warmup=0";
    d.set[5] = "train.ema=0";
    d.set[6] = "train.accumulate=1";
    d.set[7] = "train.batch_size=64";
    d.set[8] = "train.epochs=1";
    d.set[9] = "model.hidden=32,32,32,32,32,32,32";
    d.set[10] = "data.std=1e-3";
    assert_int_equal(train(&d, ANEW, NULL, &err), HEED_ERR_NUMERIC);
    if (!strstr(err.text, "the validation loss of epoch 1 is not finite"))
        fail_msg("%s", err.text);
}

static void what_goes_by_validation_needs_a_validation_part(void **state)
{
    day d = open_day(*state);
    heed_error err = { 0 };
    heed_train_result r;

    d.set[0] = "data.validation=0";
    d.set[1] = "train.patience=3";
    assert_int_equal(train(&d, ANEW, NULL, &err), HEED_ERR_SPEC);
    assert_non_null(strstr(err.text, "train.patience goes by validation"));
    d.set[1] = "train.schedule=plateau";
    err = (heed_error){ 0 };
    assert_int_equal(train(&d, ANEW, NULL, &err), HEED_ERR_SPEC);
    assert_non_null(strstr(err.text, "train.schedule plateau goes by validation"));
    d.set[1] = NULL; /* select: best then means the last */
    TOY_OK(train(&d, ANEW, &r, TOY_ERR));
    assert_int_equal(r.best_epoch, 0);
    assert_int_equal(r.weights_epoch, 3);
}

/* ---- refused ---- */

static void a_recipe_that_would_give_other_weights_is_refused_by_key(void **state)
{
    static const struct {
        const char *override, *words;
    } cases[] = {
        { "train.lr=0.02", "train.lr is \"0.02\" here and \"0.01\"" },
        { "train.epochs=4", "train.epochs is \"4\"" },
        { "train.seed=6", "train.seed is \"6\"" },
        { "train.ema=0.81", "train.ema" },
        { "train.select=last", "train.select" },
        { "model.hidden=6", "model.hidden is \"6\" here and \"5\"" },
        { "model.name=cnn", "model.name is \"cnn\" here and \"mlp\"" },
        { "data.mirror=false", "data.mirror" },
        { "data.validation=0.1", "data.validation" },
        { "train.beta1=0.8", "train.beta1" },
    };
    day d = open_day(*state);
    fingerprint want = left_alone(&d);

    d.stop_at = 6;
    assert_int_equal(train(&d, ANEW, NULL, NULL), HEED_ERR_STOPPED);
    d.stop_at = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        heed_error err = { 0 };

        d.set[0] = cases[i].override;
        if (train(&d, RESUME, NULL, &err) != HEED_ERR_SPEC || !strstr(err.text, cases[i].words))
            fail_msg("%s: %s", cases[i].override, err.text);
    }
    d.set[0] = "train.threads=2"; /* what changes no weight may change */
    d.set[1] = "train.keep=5";
    d.set[2] = "train.checkpoint_steps=1";
    d.set[3] = "train.checkpoint_minutes=0.000001";
    TOY_OK(train(&d, RESUME, NULL, TOY_ERR));
    assert_same(&d, &want, "with other idle keys", 1);
}

static void other_data_and_another_level_are_refused(void **state)
{
    heed_context *plain = toy_context(1, HEED_ISA_PORTABLE);
    day d = open_day(*state);
    heed_error err = { 0 };

    d.stop_at = 6;
    assert_int_equal(train(&d, ANEW, NULL, NULL), HEED_ERR_STOPPED);
    d.stop_at = 0;
    if (d.ctx->isa != HEED_ISA_PORTABLE) {
        d.ctx = plain;
        assert_int_equal(train(&d, RESUME, NULL, &err), HEED_ERR_SPEC);
        assert_non_null(strstr(err.text, "this is portable, which rounds otherwise; --isa "));
        d.ctx = d.s->ctx;
    }
    toy_write_idx(d.data, 31, 5);
    err = (heed_error){ 0 };
    assert_int_equal(train(&d, RESUME, NULL, &err), HEED_ERR_SPEC);
    assert_non_null(strstr(err.text, "not the data that the training began with"));
    toy_write_idx(d.data, 30, 5);
    assert_int_equal(rename(d.data, in_folder(d.s->folder, "moved")),
                     0); /* the same data elsewhere are the same */
    snprintf(d.data, sizeof d.data, "data.path=%s/moved", d.s->folder);
    d.set[0] = d.data;
    TOY_OK(train(&d, RESUME, NULL, TOY_ERR));
    heed_context_free(plain);
}

static void a_training_that_was_interrupted_is_not_begun_again_by_mistake(void **state)
{
    day d = open_day(*state);
    heed_error err = { 0 };

    d.stop_at = 6;
    assert_int_equal(train(&d, ANEW, NULL, NULL), HEED_ERR_STOPPED);
    assert_int_equal(train(&d, ANEW, NULL, &err), HEED_ERR_EXISTS);
    assert_non_null(strstr(err.text, "interrupted after step"));
    assert_non_null(strstr(err.text, "--resume goes on"));
    d.stop_at = 0;
    TOY_OK(train(&d, FORCE, NULL, TOY_ERR));
}

static void where_there_is_nothing_to_go_on_with_it_says_so(void **state)
{
    day d = open_day(*state);
    heed_error err = { 0 };
    char *path = NULL;

    assert_int_equal(train(&d, RESUME, NULL, &err), HEED_ERR_IO);
    assert_non_null(strstr(err.text, "there is no training in"));
    assert_int_equal(access(d.out, F_OK), -1);
    assert_int_equal(heed_train_recipe(&path, d.ctx, d.out, NULL), HEED_ERR_IO);
    assert_int_equal(mkdir(d.out, 0700), 0);
    err = (heed_error){ 0 };
    assert_int_equal(train(&d, RESUME, NULL, &err), HEED_ERR_IO);
    assert_non_null(strstr(err.text, "there is no checkpoint in"));
    assert_int_equal(scratch_entries(d.out), 0);
    TOY_OK(train(&d, RESUME_OR_FRESH, NULL, TOY_ERR));
    TOY_OK(heed_train_recipe(&path, d.ctx, d.out, TOY_ERR));
    assert_string_equal(path, in_folder(d.out, "recipe.yaml"));
    heed_text_free(d.ctx, path);
}

/* ---- two trainers ---- */

typedef struct rival {
    day *d;
    heed_context *ctx;
    heed_error err;
    heed_status st;
} rival;

static bool let_the_rival_in(void *user, const heed_progress *p)
{
    rival *v = user;
    heed_recipe *r = NULL;
    heed_train_result result;

    if (p->step == 2 && v->st == HEED_OK) {
        TOY_OK(heed_recipe_open(&r, v->ctx, v->d->recipe, NULL, TOY_ERR));
        v->st =
            heed_train(&result, v->ctx, r, &(heed_train_opts){ .out = v->d->out, .force = true }, &v->err);
        heed_recipe_free(r);
    }
    return false;
}

static void a_second_trainer_is_refused_and_a_left_over_lock_is_not(void **state)
{
    day d = open_day(*state);
    const fingerprint want = left_alone(&d);
    heed_train_result result;
    heed_recipe *r = NULL;
    rival v = { .d = &d, .ctx = toy_context(1, HEED_ISA_AUTO) };
    char pid[40];

    TOY_OK(heed_recipe_open(&r, d.ctx, d.recipe, NULL, TOY_ERR));
    TOY_OK(heed_train(&result, d.ctx, r,
                      &(heed_train_opts){ .out = d.out, .progress = let_the_rival_in, .user = &v }, TOY_ERR));
    assert_int_equal(v.st, HEED_ERR_EXISTS);
    snprintf(pid, sizeof pid, "another training (process %d)", (int)getpid());
    assert_non_null(strstr(v.err.text, pid));
    assert_same(&d, &want, "beside a rival", 1);
    scratch_clear(d.out);
    assert_int_equal(mkdir(d.out, 0700), 0);
    scratch_put(in_folder(d.out, "lock"), "1\n", 2); /* process 1 lives, and holds no lock */
    TOY_OK(train(&d, ANEW, NULL, TOY_ERR));
    assert_same(&d, &want, "with a left-over lock", 1);
    heed_recipe_free(r);
    heed_context_free(v.ctx);
}

/* ---- a full disk, faults ---- */

static void a_disk_that_fills_up_costs_no_bit(void **state)
{
    day d = open_day(*state);
    const fingerprint want = left_alone(&d);
    full_disk disk;
    int failed = 0;

    for (uint64_t bytes = 0;; bytes += 4096) {
        heed_error err = { 0 };
        heed_status st;

        scratch_clear(d.out);
        full_disk_in(&disk, d.ctx, bytes);
        st = train(&d, ANEW, NULL, &err);
        full_disk_out(&disk);
        if (st == HEED_OK)
            break;
        failed++;
        assert_int_equal(st, HEED_ERR_IO);
        assert_non_null(strstr(err.text, "bytes more are needed"));
        TOY_OK(train(&d, RESUME_OR_FRESH, NULL, TOY_ERR)); /* room was made */
        assert_same(&d, &want, "a disk full after KiB", (int)(bytes / 1024));
    }
    print_message("a disk full after each of %d steps of 4 KiB: the same bits\n", failed);
    assert_true(failed > 5);
}

static day *fault_day;

static heed_status stop_and_go_on(heed_context *ctx, void *user, heed_error *err)
{
    day d = *fault_day;

    (void)user;
    d.ctx = ctx;
    return train(&d, RESUME, NULL, err);
}

static void stop_there(heed_context *ctx, void *user)
{
    day d = *fault_day;

    (void)user;
    scratch_clear(d.out);
    d.ctx = ctx;
    d.stop_at = 4;
    assert_int_equal(train(&d, ANEW, NULL, NULL), HEED_ERR_STOPPED);
}

/* Whatever failed, going on ends where it should. */
static bool ends_right(heed_context *ctx, void *user, heed_status st)
{
    const fingerprint *want = user;
    day d = *fault_day;
    fingerprint got;
    heed_error err = { 0 };

    d.ctx = ctx;
    if (st != HEED_OK && train(&d, RESUME, NULL, &err) != HEED_OK)
        return false;
    got = fingerprint_of(&d);
    return strcmp(got.digest, want->digest) == 0;
}

static void every_allocation_and_every_file_call_of_going_on_may_fail(void **state)
{
    const heed_scenario scenario = {
        .name = "resume", .run = stop_and_go_on, .prepare = stop_there, .right = ends_right
    };
    day d = open_day(*state);
    heed_fail_report report;
    fingerprint want;

    d.set[0] = "train.epochs=2";
    d.set[1] = "train.max_steps=2";
    d.set[2] = "train.checkpoint_steps=0";
    want = left_alone(&d);
    fault_day = &d;
    assert_true(heed_fail_each(&scenario, &want, &report));
    assert_true(heed_fail_each_file(&scenario, &want, &report));
}

#define UNIT(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(a_training_stopped_after_any_batch_goes_on_to_the_same_bits),
        UNIT(a_training_stopped_again_and_again_ends_the_same),
        UNIT(a_finished_run_is_finished_again_and_stays_what_it_is),
        UNIT(a_death_at_any_file_call_of_a_training_costs_no_bit),
        UNIT(a_kill_at_any_call_of_a_save_costs_no_bit),
        UNIT(a_run_that_is_written_over_can_be_used_at_any_moment),
        UNIT(a_training_over_a_run_goes_on_too),
        UNIT(what_is_said_of_a_run_is_of_the_files_that_count),
        UNIT(the_report_of_a_run_that_was_written_over_goes_with_it),
        UNIT(a_damaged_set_is_told_and_the_one_before_is_used),
        UNIT(where_every_set_is_damaged_only_fresh_goes_on),
        UNIT(fresh_writes_over_a_run_only_with_force),
        UNIT(what_a_training_began_with_is_not_wanted_again),
        UNIT(the_log_is_cut_back_to_the_checkpoint),
        UNIT(the_run_has_the_weights_of_the_best_epoch_or_of_the_last),
        UNIT(patience_ends_a_training_that_does_not_get_better),
        UNIT(a_validation_loss_that_is_not_finite_ends_the_training),
        UNIT(what_goes_by_validation_needs_a_validation_part),
        UNIT(a_recipe_that_would_give_other_weights_is_refused_by_key),
        UNIT(other_data_and_another_level_are_refused),
        UNIT(a_training_that_was_interrupted_is_not_begun_again_by_mistake),
        UNIT(where_there_is_nothing_to_go_on_with_it_says_so),
        UNIT(a_second_trainer_is_refused_and_a_left_over_lock_is_not),
        UNIT(a_disk_that_fills_up_costs_no_bit),
        UNIT(every_allocation_and_every_file_call_of_going_on_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
