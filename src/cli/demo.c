/* heed demo: what `make demo` does once the data is there: train the small model with attention, then evaluate it. */

#include "cli/train.h"

typedef struct demo_args {
    const char *recipe, *data, *out;
    heed_maybe_i64 threads;
} demo_args;

static const cli_option demo_table[] = {
    PATH(demo_args, recipe, .value = "FILE", .fallback = "recipes/fashion-attention.yaml",
         .doc = "what is trained"),
    PATH(demo_args, data, .value = "DIR", .fallback = "data/fashion-mnist",
         .doc = "where Fashion-MNIST lies"),
    PATH(demo_args, out, .value = "DIR", .fallback = "runs/demo",
         .doc = "folder of the run; an older one is written over"),
    MAYBE(demo_args, threads, .value = "N", .max = 1024, .variable = "HEED_THREADS",
          .doc = "threads that compute"),
    OPTIONS_END,
};

static heed_status demo_run(cli *c, const void *args)
{
    const demo_args *a = args;
    char data[600];
    const char *set[] = { data };

    if (!heed__cli_is_there(a->recipe) || !heed__cli_is_folder(a->data)) {
        printf("The demo trains a small network with attention on Fashion-MNIST and then evaluates it:\n\n"
               "  tools/data/fetch fashion-mnist\n"
               "  heed train %s --out %s --force\n"
               "  heed eval %s\n\n"
               "In the source tree of heed `make demo` does all three.\n",
               a->recipe, a->out, a->out);
        return heed__cli_fail(
            c, HEED_ERR_IO,
            "%s is not here; run this in the source tree, after tools/data/fetch fashion-mnist",
            heed__cli_is_there(a->recipe) ? a->data : a->recipe);
    }
    (void)snprintf(data, sizeof data, "data.path=%.500s", a->data);
    TRY(heed__cli_train_run(
        c,
        &(train_args){
            .recipe = a->recipe, .out = a->out, .set = { set, 1 }, .threads = a->threads, .force = true }));
    putchar('\n');
    return heed__cli_eval_run(c, &(eval_args){ .run = a->out });
}

const cli_command heed__cli_demo = {
    .name = "demo",
    .does = "train and evaluate a small network with attention",
    .options = demo_table,
    .args_size = sizeof(demo_args),
    .run = demo_run,
    .example = "heed demo\n",
};
