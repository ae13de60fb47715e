/* Writing text with a KV cache: a small causal Transformer learns two rhymes letter by letter, then goes on
 * from their beginnings. Prompts of unequal length share a batch; each step after them computes one row and
 * not the whole line.
 *
 * One build function serves both: training sees whole lines, writing appends to the cache. */
#include <heed/heed.h>
#include <stdio.h>
#include <string.h>

#define LINES 2
#define LENGTH 64 /* letters of a line, and room in the cache */
#define PROMPT 16 /* letters given at once, at most */
#define LETTERS 128
#define WIDTH 32

static const char *const rhymes[LINES] = { "how much wood would a woodchuck chuck if it could chuck wood?\n",
                                           "she sells sea shells on the sea shore.\n" };
static const char *const prompts[LINES] = { "how much wo", "she" };

/* Training: in[0] letters [B,T] -> logits [B,letters,T]. Writing: in[1] [B] says how many of the T letters
 * each line appends, logits [B,T,letters]. */
static heed_value network(heed_builder *b, const heed_value *in, const void *config)
{
    const int64_t lines = heed_dim(b, in[0], 0), rows = heed_dim(b, in[0], 1);
    const heed_mode mode = heed_get_mode(b);
    heed_kv_cache cache = { 0 };
    heed_value positions, x;

    (void)config;
    if (mode == HEED_TRAIN)
        positions = heed_iota(b, HEED_TYPE(HEED_I64, 1, rows), 1);
    else {
        cache =
            heed_kv_cache_open(b, "line", lines, rows, LENGTH, &(heed_kv_cache_opts){ .new_lengths = in[1] });
        positions = cache.positions;
    }
    x = heed_add(b, heed_embedding(b, "letter", in[0], LETTERS, WIDTH, NULL),
                 heed_embedding(b, "place", positions, LENGTH, WIDTH, NULL));
    x = heed_encoder_layer(b, "layer", x, 2,
                           &(heed_encoder_layer_opts){ .feedforward = 64,
                                                       .dropout = HEED_SET(0),
                                                       .norm = HEED_PRE_NORM,
                                                       .spec.mask.causal = mode == HEED_TRAIN,
                                                       .cache = mode == HEED_TRAIN ? NULL : &cache });
    x = heed_linear(b, "head", heed_layer_norm_layer(b, "norm", x, NULL), LETTERS, NULL);
    return mode == HEED_TRAIN ? heed_transpose(b, x, 1, 2) : x;
}

/* Each letter's target is the next one; what is behind a line's end is not counted (-100). */
static heed_status train(heed_model *model, heed_error *err)
{
    int64_t letters[LINES][LENGTH], next[LINES][LENGTH];
    heed_tensor x = { HEED_TYPE(HEED_I64, LINES, LENGTH), letters },
                y = { HEED_TYPE(HEED_I64, LINES, LENGTH), next };
    heed_trainer *trainer = NULL;
    heed_status st;

    for (int b = 0; b < LINES; b++)
        for (int i = 0; i < LENGTH; i++) {
            const int end = (int)strlen(rhymes[b]);

            letters[b][i] = i < end ? rhymes[b][i] : '\n';
            next[b][i] = i + 1 < end ? rhymes[b][i + 1] : -100;
        }
    st = heed_trainer_new(&trainer, model,
                          &(heed_trainer_opts){ .optimizer = HEED_ADAM, .lr = HEED_SET(0.01f) }, err);
    for (int step = 0; step < 150 && st == HEED_OK; step++)
        st = heed_trainer_step(trainer, &x, 1, &y, NULL, err);
    heed_trainer_free(trainer);
    return st;
}

static int64_t likeliest(const float *logits)
{
    int64_t best = 0;

    for (int64_t c = 1; c < LETTERS; c++)
        best = logits[c] > logits[best] ? c : best;
    return best;
}

/* The prompts in one run, then a letter for each line that has not ended. */
static heed_status write_on(heed_model *model, char text[LINES][LENGTH + 1], heed_error *err)
{
    static float logits[LINES * PROMPT * LETTERS];
    int64_t letters[LINES * PROMPT] = { 0 }, news[LINES], rows = PROMPT, writing = LINES;

    for (int b = 0; b < LINES; b++) {
        news[b] = (int64_t)strlen(prompts[b]);
        memcpy(text[b], prompts[b], (size_t)news[b] + 1);
        for (int64_t i = 0; i < news[b]; i++)
            letters[b * PROMPT + i] = prompts[b][i];
    }
    while (writing > 0) {
        const heed_tensor in[] = { { HEED_TYPE(HEED_I64, LINES, rows), letters },
                                   { HEED_TYPE(HEED_I64, LINES), news } };
        const heed_tensor out = { HEED_TYPE(HEED_F32, LINES, rows, LETTERS), logits };
        const heed_status st = heed_model_run(model, in, 2, &out, 1, err);

        if (st)
            return st;
        writing = 0;
        for (int b = 0; b < LINES; b++) {
            const size_t n = strlen(text[b]);

            if (news[b] > 0) {
                letters[b] = likeliest(&logits[(b * rows + news[b] - 1) * LETTERS]);
                text[b][n] = (char)letters[b];
                text[b][n + 1] = '\0';
            }
            news[b] =
                news[b] > 0 && letters[b] != '\n' && n + 1 < LENGTH; /* a line that ended appends nothing */
            writing += news[b];
        }
        rows = 1;
    }
    return HEED_OK;
}

int main(void)
{
    char text[LINES][LENGTH + 1];
    heed_context *ctx = NULL;
    heed_model *model = NULL;
    heed_error err = { 0 };
    int right = 1;

    if (heed_context_new(&ctx, NULL, &err) ||
        heed_model_new(&model, ctx, network, NULL, &(heed_model_opts){ .seed = 1 }, &err) ||
        train(model, &err))
        goto done;
    for (int again = 0; again < 2 && !err.code; again++) { /* the cache begins anew when it is rewound */
        if (again && heed_kv_cache_rewind(heed_model_weights(model), "line", HEED_EVERY_SEQUENCE, 0, &err))
            goto done;
        if (write_on(model, text, &err))
            goto done;
        for (int b = 0; b < LINES; b++)
            right &= strcmp(text[b], rhymes[b]) == 0;
    }
    for (int b = 0; b < LINES; b++)
        printf("%s|%s", prompts[b], text[b] + strlen(prompts[b]));
done:
    if (err.code)
        fprintf(stderr, "%s\n", err.text);
    heed_model_free(model);
    heed_context_free(ctx);
    return err.code != 0 || !right;
}
