/* The whole of heed in one screen: a network that learns XOR, is saved, loaded and asked.
 *   cc xor.c $(pkg-config --cflags --libs heed) && ./a.out */
#include <heed/heed.h>
#include <stdio.h>

/* in[0] [B,2] -> logits [B,2] */
static heed_value network(heed_builder *b, const heed_value *in, const void *config)
{
    (void)config;
    heed_value h = heed_tanh(b, heed_linear(b, "fc1", in[0], 8, NULL));
    return heed_linear(b, "fc2", h, 2, NULL);
}

int main(void)
{
    float points[4][2] = { { 0, 0 }, { 0, 1 }, { 1, 0 }, { 1, 1 } }, logits[4][2], loss = 0;
    int64_t labels[4] = { 0, 1, 1, 0 };
    heed_tensor x = { HEED_TYPE(HEED_F32, 4, 2), points }, y = { HEED_TYPE(HEED_I64, 4), labels };
    heed_tensor out = { HEED_TYPE(HEED_F32, 4, 2), logits };
    heed_trainer_opts training = { .optimizer = HEED_ADAM, .lr = HEED_SET(0.05f) };
    heed_context *ctx = NULL;
    heed_model *model = NULL, *loaded = NULL;
    heed_trainer *trainer = NULL;
    heed_error err = { 0 };

    if (heed_context_new(&ctx, NULL, &err) ||
        heed_model_new(&model, ctx, network, NULL, &(heed_model_opts){ .seed = 1 }, &err) ||
        heed_trainer_new(&trainer, model, &training, &err))
        goto done;
    for (int step = 0; step < 200; step++)
        if (heed_trainer_step(trainer, &x, 1, &y, &loss, &err))
            goto done;
    if (heed_model_save(model, "xor.safetensors", &err) ||
        heed_model_new(&loaded, ctx, network, NULL, NULL, &err) ||
        heed_model_load(loaded, "xor.safetensors", &err) || heed_model_run(loaded, &x, 1, &out, 1, &err))
        goto done;
    for (int i = 0; i < 4; i++)
        printf("%g xor %g = %d\n", points[i][0], points[i][1], logits[i][1] > logits[i][0]);
done:
    if (err.code)
        fprintf(stderr, "%s\n", err.text);
    heed_trainer_free(trainer);
    heed_model_free(loaded);
    heed_model_free(model);
    heed_context_free(ctx);
    return err.code != 0;
}
