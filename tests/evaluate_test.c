/* Evaluation against numbers worked out by hand. The model's logits are three of the picture's own pixels. */
#include "support/cmocka.h"
#include "support/toy.h"

#include <heed/metrics.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* x [B,1,1,6] -> logits x[..., 0..2]: the mirror image has pixels 5, 4, 3 there. */
static heed_value first_pixels(heed_builder *b, const heed_value *in, const void *config)
{
    (void)config;
    return heed_slice(b, heed_flatten(b, in[0], 1, -1), 1, 0, 3, 1);
}

static heed_value flat_logits(heed_builder *b, const heed_value *in, const void *config)
{
    (void)b;
    (void)config;
    return in[0]; /* rank 4 */
}

typedef struct bench {
    heed_dataset *data;
    heed_model *model;
    heed_loader *loader;
} bench;

static bench open_bench(heed_context *ctx, heed_build_fn *build, const uint8_t *pixels, const int64_t *labels,
                        int64_t n, int64_t batch)
{
    bench b = { NULL, NULL, NULL };

    TOY_OK(heed_dataset_from_memory(
        &b.data, ctx, (heed_tensor){ HEED_TYPE(HEED_U8, n, 1, 6), (void *)(uintptr_t)pixels },
        (heed_tensor){ HEED_TYPE(HEED_I64, n), (void *)(uintptr_t)labels }, 0, TOY_ERR));
    TOY_OK(heed_model_new(&b.model, ctx, build, NULL, NULL, TOY_ERR));
    TOY_OK(heed_loader_new(&b.loader, ctx, b.data, NULL, 0,
                           &(heed_loader_opts){ .batch_size = batch, .std = (const float[]){ 1.0f / 255 } },
                           TOY_ERR));
    return b;
}

static void close_bench(bench *b)
{
    heed_loader_free(b->loader);
    heed_model_free(b->model);
    heed_dataset_free(b->data);
}

/* Pixels are logits: rows are pictures 0 .. 4. Predicted 0, 2, 1, 1, 0; labels 0, 2, 2, 1, 1: three of five.
 * Mirrored first pixels are the last three backwards. */
static const uint8_t pixels[5][6] = {
    { 3, 1, 0, 0, 9, 0 }, { 0, 0, 2, 5, 0, 0 }, { 0, 4, 1, 7, 0, 0 },
    { 1, 3, 2, 0, 1, 0 }, { 5, 0, 0, 0, 9, 0 },
};
static const int64_t labels[5] = { 0, 2, 2, 1, 1 };

static double minus_log_softmax(const double x[3], int64_t at)
{
    return log(exp(x[0]) + exp(x[1]) + exp(x[2])) - x[at];
}

static double loss_by_hand(void)
{
    double sum = 0;

    for (int i = 0; i < 5; i++)
        sum += minus_log_softmax((const double[]){ pixels[i][0], pixels[i][1], pixels[i][2] }, labels[i]);
    return sum / 5;
}

static void loss_accuracy_and_confusion_are_those_worked_out_by_hand(void **state)
{
    static const int64_t confusion[9] = { 1, 0, 0, 1, 1, 0, 0, 1, 1 };
    scratch *s = *state;

    for (int64_t batch = 1; batch <= 7;
         batch++) { /* whole batches, a part in the last one, one larger than the data */
        bench b = open_bench(s->ctx, first_pixels, &pixels[0][0], labels, 5, batch);
        heed_evaluation e;

        TOY_OK(heed_evaluate(&e, b.model, b.loader, HEED_AVERAGE_NONE, TOY_ERR));
        assert_int_equal(e.n, 5);
        assert_int_equal(e.classes, 3);
        assert_true(e.accuracy == 0.6);
        assert_true(e.accuracy_mirror == -1);
        assert_true(fabs(e.loss - loss_by_hand()) < 1e-6);
        assert_memory_equal(e.confusion, confusion, sizeof confusion);
        assert_memory_equal(e.labels, labels, sizeof labels);
        for (int i = 0; i < 15; i++) {
            const double x[3] = { pixels[i / 3][0], pixels[i / 3][1], pixels[i / 3][2] };

            assert_true(fabs((double)e.probability[i] - exp(-minus_log_softmax(x, i % 3))) < 1e-7);
        }
        assert_null(e.probability_mirror);
        heed_evaluation_release(s->ctx, &e);
        assert_true(!e.confusion && !e.probability && !e.labels);
        close_bench(&b);
    }
}

/* Probabilities of picture and mirror image go into the metrics as they are. */
static void metrics_of_an_evaluation_agree_with_it(void **state)
{
    scratch *s = *state;
    bench b = open_bench(s->ctx, first_pixels, &pixels[0][0], labels, 5, 2);
    heed_tensor probability, truth;
    heed_metrics *m = NULL;
    heed_evaluation e;

    TOY_OK(heed_evaluate(&e, b.model, b.loader, HEED_AVERAGE_MIRROR, TOY_ERR));
    heed_evaluation_tensors(&e, HEED_AVERAGE_NONE, &probability, &truth);
    TOY_OK(heed_metrics_new(&m, s->ctx, probability, truth, TOY_ERR));
    assert_true(m->accuracy == e.accuracy && fabs(m->log_loss - e.loss) < 1e-6);
    assert_memory_equal(m->confusion, e.confusion, 9 * sizeof *e.confusion);
    heed_metrics_free(s->ctx, m);
    heed_evaluation_tensors(&e, HEED_AVERAGE_MIRROR, &probability, &truth);
    assert_ptr_equal(probability.data, e.probability_mirror);
    TOY_OK(heed_metrics_new(&m, s->ctx, probability, truth, TOY_ERR));
    assert_true(m->accuracy == e.accuracy_mirror);
    heed_metrics_free(s->ctx, m);
    heed_evaluation_release(s->ctx, &e);
    assert_null(e.probability_mirror);
    close_bench(&b);
}

/* Mean of both probabilities, picture by picture (p of the picture, q of its mirror image):
 *   0: p = softmax(3, 1, 0), q = softmax(0, 9, 0): 1 wins, wrong
 *   1: p = softmax(0, 0, 2), q = softmax(0, 0, 5): 2, right
 *   2: p = softmax(0, 4, 1), q = softmax(0, 0, 7): (0.47, 0.52): 2, right - it was wrong before
 *   3: p = softmax(1, 3, 2), q = softmax(0, 1, 0): 1, right
 *   4: p = softmax(5, 0, 0), q = softmax(0, 9, 0): 1, right - it was wrong before */
static void mirror_averaging_takes_the_mean_of_the_probabilities(void **state)
{
    scratch *s = *state;

    for (int64_t batch = 1; batch <= 7; batch++) {
        bench b = open_bench(s->ctx, first_pixels, &pixels[0][0], labels, 5, batch);
        heed_evaluation e;

        TOY_OK(heed_evaluate(&e, b.model, b.loader, HEED_AVERAGE_MIRROR, TOY_ERR));
        assert_true(e.accuracy == 0.6); /* the single pass is not changed */
        assert_true(fabs(e.loss - loss_by_hand()) < 1e-6);
        assert_true(e.accuracy_mirror == 0.8);
        heed_evaluation_release(s->ctx, &e);
        close_bench(&b);
    }
}

/* e^-255 is 0 as a float and as a probability; its logarithm is not. */
static void probabilities_far_below_the_smallest_float_do_no_harm(void **state)
{
    scratch *s = *state;
    const uint8_t far[2][6] = { { 255, 0, 0, 0, 0, 255 }, { 0, 255, 0, 0, 0, 0 } };
    bench b = open_bench(s->ctx, first_pixels, &far[0][0], (const int64_t[]){ 0, 2 }, 2, 2);
    heed_evaluation e;

    TOY_OK(heed_evaluate(&e, b.model, b.loader, HEED_AVERAGE_MIRROR, TOY_ERR));
    assert_true(fabs(e.loss - 255.0 / 2) < 1e-4);
    assert_true(e.accuracy == 0.5 && e.accuracy_mirror == 0.5);
    heed_evaluation_release(s->ctx, &e);
    close_bench(&b);
}

static void of_equal_logits_the_first_class_is_named(void **state)
{
    scratch *s = *state;
    const uint8_t equal[2][6] = { { 7, 7, 7, 7, 7, 7 }, { 1, 2, 2, 2, 2, 1 } };
    bench b = open_bench(s->ctx, first_pixels, &equal[0][0], (const int64_t[]){ 0, 1 }, 2, 2);
    heed_evaluation e;

    TOY_OK(heed_evaluate(&e, b.model, b.loader, HEED_AVERAGE_MIRROR, TOY_ERR));
    assert_true(e.accuracy == 1 && e.accuracy_mirror == 1);
    heed_evaluation_release(s->ctx, &e);
    close_bench(&b);
}

static void evaluating_twice_gives_the_same_and_leaves_the_weights(void **state)
{
    scratch *s = *state;
    heed_dataset *d = toy_dataset(s->ctx, 33, 1);
    heed_loader *l = NULL;
    heed_model *m = NULL;
    heed_evaluation a, b;
    char before[65], after[65];

    TOY_OK(heed_loader_new(&l, s->ctx, d, NULL, 0, &(heed_loader_opts){ .batch_size = 8 }, TOY_ERR));
    TOY_OK(heed_model_new(&m, s->ctx, toy_conv_attention_build(), &toy_conv_attention,
                          &(heed_model_opts){ .seed = 1 }, TOY_ERR));
    TOY_OK(heed_model_init(m, TYPE_AT(HEED_F32, 8, 1, 8, 8), 1, TOY_ERR));
    toy_digest(before, m, HEED_WEIGHTS_ALL);
    TOY_OK(heed_evaluate(&a, m, l, HEED_AVERAGE_MIRROR, TOY_ERR));
    TOY_OK(heed_evaluate(&b, m, l, HEED_AVERAGE_MIRROR, TOY_ERR));
    toy_digest(after, m, HEED_WEIGHTS_ALL);
    assert_string_equal(before, after);
    assert_memory_equal(&a.loss, &b.loss, sizeof a.loss);
    assert_true(a.accuracy == b.accuracy && a.accuracy_mirror == b.accuracy_mirror && a.n == 33);
    heed_evaluation_release(s->ctx, &a);
    heed_evaluation_release(s->ctx, &b);
    heed_model_free(m);
    heed_loader_free(l);
    heed_dataset_free(d);
}

static void a_label_beyond_the_classes_is_refused(void **state)
{
    scratch *s = *state;
    bench b = open_bench(s->ctx, first_pixels, &pixels[0][0], (const int64_t[]){ 0, 2, 2, 3, 1 }, 5, 2);
    heed_evaluation e = { .n = 77 };
    heed_error err = { 0 };

    assert_int_equal(heed_evaluate(&e, b.model, b.loader, HEED_AVERAGE_NONE, &err), HEED_ERR_LIMIT);
    assert_string_equal(err.text, "evaluation: label 3 of sample 3, but the model has 3 classes");
    assert_int_equal(e.n, 77);
    close_bench(&b);
}

static void a_result_that_is_no_row_of_logits_is_refused(void **state)
{
    scratch *s = *state;
    bench b = open_bench(s->ctx, flat_logits, &pixels[0][0], labels, 5, 2);
    heed_evaluation e = { .n = 77 };

    assert_int_equal(heed_evaluate(&e, b.model, b.loader, HEED_AVERAGE_NONE, NULL), HEED_ERR_SHAPE);
    assert_int_equal(e.n, 77);
    close_bench(&b);
}

static void no_samples_are_no_error(void **state)
{
    scratch *s = *state;
    bench b = open_bench(s->ctx, first_pixels, &pixels[0][0], labels, 5, 2);
    heed_loader *none = NULL;
    heed_evaluation e;

    TOY_OK(heed_loader_new(&none, s->ctx, b.data, (const int64_t[]){ 0 }, 0, NULL, TOY_ERR));
    TOY_OK(heed_evaluate(&e, b.model, none, HEED_AVERAGE_MIRROR, TOY_ERR));
    assert_true(e.n == 0 && e.accuracy == 0 && e.accuracy_mirror == 0 && e.loss == 0);
    heed_evaluation_release(s->ctx, &e);
    heed_loader_free(none);
    close_bench(&b);
}

#define UNIT(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(loss_accuracy_and_confusion_are_those_worked_out_by_hand),
        UNIT(metrics_of_an_evaluation_agree_with_it),
        UNIT(mirror_averaging_takes_the_mean_of_the_probabilities),
        UNIT(probabilities_far_below_the_smallest_float_do_no_harm),
        UNIT(of_equal_logits_the_first_class_is_named),
        UNIT(evaluating_twice_gives_the_same_and_leaves_the_weights),
        UNIT(a_label_beyond_the_classes_is_refused),
        UNIT(a_result_that_is_no_row_of_logits_is_refused),
        UNIT(no_samples_are_no_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
