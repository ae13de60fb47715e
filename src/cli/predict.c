/* heed predict: what a run says of pictures, in the order of the files given. */

#define _POSIX_C_SOURCE 200809L

#include "cli/cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct predict_args {
    const char *run, *profile;
    cli_strings files;
    int64_t top_k, threads;
    int average, isa;
    bool logits, force, json;
} predict_args;

static const cli_option predict_table[] = {
    OPERAND(predict_args, run, .value = "RUN", .doc = "the folder that heed train made"),
    OPERANDS(predict_args, files, .value = "FILE",
             .doc = "IDX pictures, gzip or not; file.idx.gz[0:100] takes the first hundred, - reads stdin"),
    INTEGER(predict_args, top_k, .value = "K", .min = 1, .max = 1000000, .fallback = "3",
            .doc = "classes shown for a picture"),
    SWITCH(predict_args, logits, .doc = "adds the model's output for every class"),
    ONE_OF(predict_args, average, .words = "none|mirror", .fallback = "none",
           .doc = "mirror: of picture and mirror image; good where training mirrored"),
    THREADS_OPTION(predict_args),
    ISA_OPTION(predict_args),
    PROFILE_OPTION(predict_args),
    FORCE_OPTION(predict_args, "writes over a trace that is there"),
    JSON_OPTION(predict_args, "a JSON object a line, in the order of the input"),
    OPTIONS_END,
};

/* One picture being told about. */
typedef struct prediction {
    const char *input;
    int64_t index;
    const float *logits;
    double *probability; /* [classes], of softmax */
    int64_t *order;      /* [classes], the likeliest first; equal ones by number */
    int64_t classes;
} prediction;

static void predict_rank(prediction *p)
{
    double most = -INFINITY, sum = 0;

    for (int64_t i = 0; i < p->classes; i++)
        most = fmax(most, (double)p->logits[i]);
    for (int64_t i = 0; i < p->classes; i++)
        sum += p->probability[i] = exp((double)p->logits[i] - most);
    for (int64_t i = 0; i < p->classes; i++) {
        int64_t j = i;

        p->probability[i] /= sum;
        for (; j > 0 && p->probability[p->order[j - 1]] < p->probability[i]; j--)
            p->order[j] = p->order[j - 1];
        p->order[j] = i;
    }
}

static void predict_json(const predict_args *a, const heed_run *run, const prediction *p, int64_t top)
{
    printf("{\"input\":");
    heed__cli_json(stdout, p->input);
    printf(",\"index\":%lld,\"top\":[", (long long)p->index);
    for (int64_t i = 0; i < top; i++) {
        printf(i ? ",{\"label\":%lld,\"class\":" : "{\"label\":%lld,\"class\":", (long long)p->order[i]);
        heed__cli_json(stdout, heed_run_class(run, p->order[i]));
        printf(",\"probability\":");
        heed__cli_number(stdout, p->probability[p->order[i]]);
        putchar('}');
    }
    putchar(']');
    if (a->logits) {
        printf(",\"logits\":[");
        for (int64_t i = 0; i < p->classes; i++) {
            if (i)
                putchar(',');
            heed__cli_number(stdout, (double)p->logits[i]);
        }
        putchar(']');
    }
    printf("}\n");
}

static void predict_text(const cli *c, const predict_args *a, const heed_run *run, const prediction *p,
                         int64_t top)
{
    heed__cli_text(stdout, p->input);
    printf("[%lld]", (long long)p->index);
    for (int64_t i = 0; i < top; i++) {
        printf("  %s", i == 0 ? c->out.bold : "");
        heed__cli_text(stdout, heed_run_class(run, p->order[i]));
        printf(" %.4f%s", p->probability[p->order[i]], i == 0 ? c->out.off : "");
    }
    if (a->logits) {
        printf("  logits");
        for (int64_t i = 0; i < p->classes; i++)
            printf(" %.6g", (double)p->logits[i]);
    }
    putchar('\n');
}

/* "pictures.idx.gz[20:30]": where the file's name ends, and the number of the first picture, as the library
 * reads it. */
static size_t predict_name(const char *path, int64_t *first)
{
    const char *bracket = strrchr(path, '[');
    const char *at = bracket ? bracket + 1 : "";

    *first = 0;
    for (; *at >= '0' && *at <= '9' && *first < INT64_MAX / 10 - 10; at++)
        *first = *first * 10 + (*at - '0');
    if (bracket > path && *at == ':' && at[1 + strspn(at + 1, "0123456789")] == ']')
        return (size_t)(bracket - path);
    *first = 0;
    return strlen(path);
}

static heed_status predict_file(cli *c, const predict_args *a, heed_run *run, const char *path)
{
    const heed_average average = a->average ? HEED_AVERAGE_MIRROR : HEED_AVERAGE_NONE;
    const int64_t classes = heed_run_classes(run), top = a->top_k < classes ? a->top_k : classes;
    heed_tensor pictures = { 0 };
    prediction p = { .classes = classes };
    float *logits = NULL;
    int64_t n, first;
    const size_t name = predict_name(path, &first);
    char *input = NULL;
    heed_status st;

    STEP(heed__cli_read_idx(c, &pictures, path));
    n = pictures.type.rank > 0 ? pictures.type.dims[0] : 0;
    logits = calloc((size_t)n * (size_t)classes + 1, sizeof *logits);
    p.probability = calloc((size_t)classes + 1, sizeof *p.probability);
    p.order = calloc((size_t)classes + 1, sizeof *p.order);
    p.input = input = strndup(path, name);
    if (!logits || !p.probability || !p.order || !input) {
        st = heed__cli_fail(c, HEED_ERR_MEMORY, "no memory for the logits of %lld pictures", (long long)n);
        goto done;
    }
    STEP(heed_run_predict(run, pictures, average, logits, &c->err));
    for (int64_t i = 0; i < n && !ferror(stdout); i++) {
        p.index = first + i;
        p.logits = logits + i * classes;
        predict_rank(&p);
        if (a->json)
            predict_json(a, run, &p, top);
        else
            predict_text(c, a, run, &p, top);
    }
done:
    free(input);
    free(logits);
    free(p.probability);
    free(p.order);
    heed_data_free(c->ctx, &pictures);
    return st;
}

static heed_status predict_run(cli *c, const void *args)
{
    const predict_args *a = args;
    heed_profile *profile = NULL;
    heed_run *run = NULL;
    heed_status st;

    STEP(heed__cli_open(c, a->threads, a->isa));
    STEP(heed__cli_profile_begin(c, &profile, a->profile, a->force));
    STEP(heed_run_open(&run, c->ctx, a->run, &c->err));
    heed_model_profile(heed_run_model(run), profile);
    for (int i = 0; i < a->files.n && !ferror(stdout); i++)
        STEP(predict_file(c, a, run, a->files.at[i]));
    STEP(heed__cli_profile_end(c, profile, a->profile));
done:
    heed_run_free(run);
    heed_profile_free(profile);
    return st;
}

const cli_command heed__cli_predict = {
    .name = "predict",
    .does = "say what a run sees in pictures",
    .options = predict_table,
    .args_size = sizeof(predict_args),
    .run = predict_run,
    .about =
        "A picture is a record of an IDX file, the format of MNIST, of the size that the run was trained on.\n"
        "With --json a line is {\"input\", \"index\", \"top\": [{\"label\", \"class\", \"probability\"}], \"logits\"}; logits only"
        " with --logits. With --average mirror the logits are the logarithm of the mean probability.\n",
    .example = "heed predict runs/fa data/fashion-mnist/t10k-images-idx3-ubyte.gz[0:10]\n"
               "zcat pictures.gz | heed predict runs/fa - --top-k 1 --json\n",
};
